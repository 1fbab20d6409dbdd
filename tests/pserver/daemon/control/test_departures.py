import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.control.departures import Departures
from pserver.daemon.control.endings import Endings
from pserver.daemon.user_file import UserFileWatch
from srp_tools.credentials import Credentials
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.pserver.daemon.control.conftest import Place


def add(file: VerifierFile, user: str) -> None:
    file.add(make_verifier(Credentials(user, "correct horse"), 2048))


def settings(file: VerifierFile, *allowed: str) -> ServerConfig:
    return ServerConfig(auth_file=file.path, shared_account=True, allow_root=True, allow_users=allowed)


@pytest.fixture
def users(tmp_path: Path) -> UserFileWatch:
    """Give a file with two users."""
    file = VerifierFile(tmp_path / "server" / "tpasswd")
    for user in ("alice", "bob"):
        add(file, user)
    watch = UserFileWatch.of(settings(file), lambda: None)
    watch.look()
    return watch


@pytest.mark.parametrize(
    ("change", "allowed", "why"),
    [
        (lambda _: None, (), ""),
        (lambda _: None, ("bob", "alice"), ""),
        (lambda file: file.remove("bob"), (), ""),
        (lambda file: file.remove("alice"), (), "this user was removed"),
        (lambda file: add(file, "alice"), (), "the password of this user was changed"),
        (lambda _: None, ("bob",), "may no longer log in"),
    ],
)
def test_who_may_not_log_in_as_before_goes_with_the_reason(
    place: Place,
    users: UserFileWatch,
    change: Callable[[VerifierFile], object],
    allowed: tuple[str, ...],
    why: str,
) -> None:
    assert users.path is not None
    file = VerifierFile(users.path)
    session, control = place.log_in("alice")
    departures = Departures(Endings(), users)
    departures.begin(session, "alice", users.salts["alice"])
    change(file)
    users.reconfigure(settings(file, *allowed))
    ended = departures.end(place.sessions)
    assert len(ended) == bool(why)
    if why:
        assert why in json.loads(control.recv(1000))["end"]
        assert (ended[0]["session"], ended[0]["user"]) == (session.pid, "alice")


def test_a_session_of_a_user_with_another_account_ends(
    place: Place, users: UserFileWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, _ = place.log_in("alice")
    departures = Departures(Endings(), users)
    departures.begin(session, "alice", users.salts["alice"])
    monkeypatch.setattr(users, "account_name", lambda _: "physics2")
    [ended] = departures.end(place.sessions)
    assert "now has another account on the server (--account-map)" in str(ended["why"])


def test_a_login_that_goes_on_is_left_alone(place: Place, users: UserFileWatch) -> None:
    session, _ = place.log_in("alice")
    departures = Departures(Endings(), users)
    departures.begin(session, "mallory", None)
    session.user = None
    assert departures.end(place.sessions) == []
