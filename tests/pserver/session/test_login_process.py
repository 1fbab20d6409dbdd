"""The messages from an unprivileged login process to its session; tests.integration.test_accounts tests the process."""

import dataclasses
import json
import socket
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from pconnect.errors import AuthenticationError, ConnectionLostError
from pserver.config.session_settings import SessionSettings
from pserver.session.login_process import LoginApart, _read_outcome
from srp_tools.credentials import Credentials
from srp_tools.errors import ParallelError
from srp_tools.login import log_in
from srp_tools.steps import deadline_after, run
from tests.support.accounts import needs_root
from tests.support.servers import make_users, open_files
from tests.support.waiting import DEADLINE


def settings_for(user: str, file: Path) -> SessionSettings:
    return SessionSettings(
        auth_file=file,
        data_port=1,
        bind=[],
        login_timeout=DEADLINE,
        proof_timeout=DEADLINE,
        log_file=None,
        peer="here",
        user=user,
        kept=file.parent / "kept",
        sessions_path=Path("/nowhere"),
    )


class Client(threading.Thread):
    """Logs in with the given credentials, and keeps the outcome."""

    def __init__(self, sock: socket.socket, credentials: Credentials, answer: bytes = b"my answer") -> None:
        super().__init__()
        self._sock, self._credentials, self._answer = sock, credentials, answer
        self.offer = b""
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        def reply(offer: bytes) -> bytes:
            self.offer = offer
            return self._answer

        try:
            run(log_in(self._sock, self._credentials, reply), deadline_after(DEADLINE))
        except (ParallelError, OSError) as error:
            self.error = error


def attempt(client: Credentials, settings: SessionSettings, *, is_known: bool = True) -> tuple[Any, Client]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    with ours, theirs:
        other = Client(ours, client)
        assert settings.auth_file is not None
        try:
            apart = LoginApart(theirs, settings, settings.auth_file, b"", is_known=is_known)
            said: Any = run(apart.log_in(b"my offer"), deadline_after(DEADLINE))
        except (ParallelError, OSError) as error:
            said = error
        theirs.close()
        other.join(DEADLINE)
    return said, other


@needs_root
def test_a_client_logs_in(tmp_path: Path) -> None:
    credentials, file = make_users(tmp_path)
    before, children = open_files(), psutil.Process().children()
    said, client = attempt(credentials, settings_for(credentials.user, file))
    assert said == (credentials.user, b"my answer")
    assert (client.offer, client.error) == (b"my offer", None)
    assert open_files() == before
    assert psutil.Process().children() == children


@needs_root
def test_who_does_not_know_the_password_is_refused(tmp_path: Path) -> None:
    credentials, file = make_users(tmp_path)
    wrong = dataclasses.replace(credentials, password="something else")
    texts = set()
    for client, is_known in ((wrong, True), (credentials, False)):
        said, other = attempt(client, settings_for(credentials.user, file), is_known=is_known)
        assert isinstance(said, AuthenticationError)
        assert isinstance(other.error, AuthenticationError)
        texts.add(str(other.error))
    assert len(texts) == 1


@needs_root
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    credentials, file = make_users(tmp_path)
    file.unlink()
    said, _ = attempt(credentials, settings_for(credentials.user, file))
    assert isinstance(said, ConnectionLostError)
    assert str(file) in str(said)


@needs_root
def test_a_silent_client_is_given_up(tmp_path: Path) -> None:
    credentials, file = make_users(tmp_path)
    settings = dataclasses.replace(settings_for(credentials.user, file), proof_timeout=0.1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        with pytest.raises(TimeoutError):
            apart = LoginApart(theirs, settings, file, b"", is_known=True)
            run(apart.log_in(b""), deadline_after(DEADLINE))


@needs_root
@pytest.mark.parametrize(
    ("user", "is_known", "is_let_in"),
    [("", True, True), ("", False, False), ("unheard-of", True, False), ("unheard-of", False, False)],
)
def test_a_login_that_lies_lets_nobody_in_without_a_verifier(
    user: str, is_known: bool, is_let_in: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials, file = make_users(tmp_path)
    settings = settings_for(user or credentials.user, file)

    def lie(*_: object) -> tuple[str, bytes]:
        return settings.user, b"an answer"

    monkeypatch.setattr("pserver.session.login_process._prove", lie)
    said, _ = attempt(credentials, settings, is_known=is_known)
    if is_let_in:  # it has the verifier of this user already
        assert said == (settings.user, b"an answer")
    else:
        assert isinstance(said, ConnectionLostError)
        assert "for a user without a password" in str(said)


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (b"", ConnectionLostError, "the process that logs clients in has ended"),
        (b"\xff", ConnectionLostError, "the process that logs clients in has ended"),
        (b'{"user": 1}', ConnectionLostError, "the process that logs clients in has ended"),
        (b"[" * 100_000, ConnectionLostError, "the process that logs clients in has ended"),
        (
            b'{"user": "alice", "answer": "xy"}',
            ConnectionLostError,
            "the process that logs clients in has ended",
        ),
        (b'{"failed": "%s"}' % (b"x" * 10_000), ConnectionLostError, r"\Ax{1000}\Z"),
        (
            json.dumps({"user": "bob", "answer": ""}).encode(),
            ConnectionLostError,
            "has named two different users",
        ),
        (b'{"refused": "no"}', AuthenticationError, "no"),
        (b'{"late": "too late"}', TimeoutError, "too late"),
        (b'{"failed": "broken"}', ConnectionLostError, "broken"),
    ],
)
def test_what_it_says(words: bytes, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        _read_outcome(words, "alice")
    assert _read_outcome(b'{"user": "alice", "answer": "ff00"}', "alice") == ("alice", b"\xff\0")
