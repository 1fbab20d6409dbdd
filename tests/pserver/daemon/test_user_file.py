import logging
from pathlib import Path

import pytest

from pserver.daemon.user_file import UserFileWatch
from srp_tools.credentials import Credentials
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.servers import make_users


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_users(tmp_path)[1]


def looked(watch: UserFileWatch, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "pserver"):
        watch.look()
    told = [record.getMessage() for record in caplog.records]
    return [each for each in told if "has the fingerprint" not in each]


def test_faults_are_logged_once_for_each_change(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = UserFileWatch(path)
    assert looked(watch, caplog) == []
    with path.open("a") as file:
        file.write("bob\n")
    message = f"in the users' file: {path}, line 2: the line does not have the form user:verifier:salt:index"
    assert looked(watch, caplog) == [message]
    assert looked(watch, caplog) == []
    path.write_text(path.read_text().removesuffix("bob\n"))
    assert looked(watch, caplog) == []
    with path.open("a") as file:
        file.write("bob\n")
    assert looked(watch, caplog) == [message]


def test_what_keeps_all_users_out_is_an_error(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = UserFileWatch(path)
    conf = path.with_name("tpasswd.conf")
    conf.chmod(0o644)
    (message,) = looked(watch, caplog)
    assert "no user can log in: " in message
    assert f"chmod 600 {conf}" in message
    conf.chmod(0o600)
    assert looked(watch, caplog) == []
    path.unlink()
    (message,) = looked(watch, caplog)
    assert f"no user can log in: there is no file {path}" in message
    assert looked(watch, caplog) == []


def test_another_kind_of_file_does_not_fill_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with path.open("a") as file:
        file.write("no user\n" * 1000)
    messages = looked(UserFileWatch(path), caplog)
    assert len(messages) == 21
    assert messages[-1] == "in the users' file: 980 more lines are not valid"


def test_without_users_there_is_nothing_to_look_at(caplog: pytest.LogCaptureFixture) -> None:
    assert looked(UserFileWatch(None), caplog) == []


def test_the_fingerprint_is_told_and_follows_the_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    changes: list[object] = []
    watch = UserFileWatch(path, (), lambda: changes.append(watch.facts()))
    file = VerifierFile(path)
    before = file.fingerprint()
    with caplog.at_level(logging.INFO, "pserver"):
        assert watch.step() > 0
        watch.step()
    assert caplog.messages == [caplog.messages[0]]
    assert f"the users' file {path} has the fingerprint {before}; " in caplog.text
    file.add(make_verifier(Credentials("bob", "correct horse"), 2048))
    after = file.fingerprint()
    watch.look()
    path.unlink()
    watch.look()
    assert after != before
    assert changes == [{"file": str(path), "fingerprint": each} for each in (before, after, None)]


def test_without_users_there_are_no_facts() -> None:
    assert UserFileWatch(None).facts() is None


def test_who_comes_later_does_not_share_the_account(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = UserFileWatch(path, is_shared=False)
    watch.look()
    VerifierFile(path).add(make_verifier(Credentials("bob", "horse battery"), 2048))
    assert looked(watch, caplog) == [
        "users refused because they would share the server's account: 'bob'; see --shared-account"
    ]
    assert "--shared-account" in watch.sharing("bob")
    assert watch.sharing("alice") == watch.refusal("alice") == ""
    assert UserFileWatch(path).sharing("bob") == ""


def test_who_is_gone_may_not_stay(path: Path) -> None:
    watch = UserFileWatch(path, ["alice", "bob"])
    watch.look()
    assert [watch.refusal(user) for user in ("alice", "bob", "carol")] == [
        "",
        "this user was removed from the server",
        "this user may no longer log in to the server (--allow-users)",
    ]
    assert UserFileWatch(None).refusal("(no login)") == ""
