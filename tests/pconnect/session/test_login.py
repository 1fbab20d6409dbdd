"""The choice of credentials, and errors about peers that are not servers. Real logins: `tests.integration`."""

import contextlib
import itertools
import math
import os
import pty
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pconnect import AuthenticationError, ConnectError, CredentialError, ServerBusyError, pconnect
from pconnect.link.host_names import parse_hosts
from pconnect.protocol.frames import VERSION, Limits, Preamble, Purpose
from pconnect.protocol.server_proof import SEED_BYTES, ServerKey
from pconnect.session.login import make_terms, open_control
from pconnect.values import encoder
from srp_tools import steps
from srp_tools.certificates import NodeKey
from srp_tools.credentials import Credentials, save_credentials
from srp_tools.login import accept_login
from srp_tools.private_files import client_file, server_file
from srp_tools.steps import deadline_after
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.servers import Server
from tests.support.verifiers import ALICE, VERIFIER
from tests.support.waiting import DEADLINE


@pytest.fixture(autouse=True)
def private_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for variable in ("PCONNECT_USER", "PCONNECT_PASSWORD"):
        monkeypatch.delenv(variable, raising=False)


def logs_in(server: Server, user: str | None = None, password: str | None = None) -> bool:
    try:
        pconnect(server.host, user=user, password=password, timeout=DEADLINE).close()
    except AuthenticationError:
        return False
    return True


def test_arguments_come_before_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    right = server.credentials
    monkeypatch.setenv("PCONNECT_USER", "nobody")
    monkeypatch.setenv("PCONNECT_PASSWORD", "wrong")
    assert not logs_in(server)
    assert logs_in(server, right.user, right.password)


def test_the_environment_comes_before_the_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    right = server.credentials
    save_credentials(Credentials(right.user, "wrong"), client_file())
    assert not logs_in(server)
    monkeypatch.setenv("PCONNECT_USER", right.user)
    monkeypatch.setenv("PCONNECT_PASSWORD", right.password)
    assert logs_in(server)


def test_an_empty_variable_is_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    save_credentials(server.credentials, client_file())
    monkeypatch.setenv("PCONNECT_PASSWORD", "")
    assert logs_in(server)


def test_the_file_and_another_one(server: Server, tmp_path: Path) -> None:
    save_credentials(server.credentials, client_file())
    assert logs_in(server)
    other = tmp_path / "other" / "file"
    save_credentials(Credentials(server.credentials.user, "wrong"), other)
    with pytest.raises(AuthenticationError):
        pconnect(server.host, password_file=other, timeout=DEADLINE)


class BusyServer(threading.Thread):
    """Turns clients away while it is busy, then forwards their connections to a real server."""

    def __init__(self, times: float, server: Server | None = None) -> None:
        super().__init__()
        self._times = times
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[float] = []

    def run(self) -> None:
        with self._listener, contextlib.ExitStack() as stack:
            while True:
                sock, _ = self._listener.accept()
                stack.enter_context(sock)
                if not sock.recv(1000, socket.MSG_PEEK):
                    return
                self.asked.append(time.monotonic())
                if len(self.asked) > self._times and self._server:
                    self._relay(sock, self._server.cmd_port)
                    return
                sock.recv(1000)
                sock.sendall(bytes([21, 3, 3, 0, 2, 2, 80]))
                sock.shutdown(socket.SHUT_WR)

    def _relay(self, client: socket.socket, port: int) -> None:
        # A client that has closed resets data that still arrives for it.
        with socket.create_connection(("127.0.0.1", port)) as server, contextlib.suppress(ConnectionError):
            other = {client: server, server: client}
            while True:
                for sock in select.select(list(other), [], [])[0]:
                    data = sock.recv(2**16)
                    if not data:
                        return
                    other[sock].sendall(data)

    def __enter__(self) -> "BusyServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive() and not self._server:
            socket.create_connection(("127.0.0.1", int(self.host.split(":")[1]))).close()
        self.join(DEADLINE)


def test_a_busy_server_is_asked_again_after_growing_pauses(server: Server) -> None:
    user, password = server.credentials.user, server.credentials.password
    with BusyServer(3, server) as busy:
        pconnect(busy.host, user=user, password=password, timeout=DEADLINE).close()
    pauses = [later - earlier for earlier, later in itertools.pairwise(busy.asked)]
    assert len(pauses) == 3
    for pause, least in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert least <= pause


def test_a_server_that_stays_busy_is_named_with_the_reason() -> None:
    begin = time.monotonic()
    with BusyServer(math.inf) as busy, pytest.raises(ConnectError) as caught:
        pconnect(busy.host, user="alice", password="any", timeout=1.0)
    assert time.monotonic() - begin < DEADLINE / 2
    [reason] = caught.value.reasons.values()
    assert type(reason) is ServerBusyError
    assert f"too many clients want to log in; tried {len(busy.asked)} times within" in str(reason)
    assert len(busy.asked) > 1


def test_without_a_terminal_there_is_no_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(
            CredentialError,
            match=r"no password for user alice: give password=.*the line USER:PASSWORD.*generate-srp-data",
        ):
            pconnect("127.0.0.1", user="alice")


def test_at_a_terminal_the_password_is_asked_for_and_not_shown(server: Server) -> None:
    right = server.credentials
    source = f"from pconnect import pconnect; pconnect({server.host!r}, user={right.user!r}).close(); print('done')"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as child:
        os.close(theirs)
        shown = b""
        while b"password of" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, right.password.encode() + b"\n")
        try:
            while chunk := os.read(ours, 1000):
                shown += chunk
        except OSError:  # Linux reports this way that no process has the terminal open
            pass
        os.close(ours)
    assert child.returncode == 0, shown
    assert f"password of {right.user} for pserver:".encode() in shown
    assert b"done" in shown
    assert right.password.encode() not in shown


def test_a_refused_login_says_whether_the_users_file_is_another_one(
    server: Server, users: tuple[Credentials, Path]
) -> None:
    right, file = users
    VerifierFile(server_file()).add(make_verifier(right, 2048))
    with pytest.raises(
        AuthenticationError, match=r"not accepted: the server has no verifier of alice, or another one than"
    ):
        pconnect(server.host, user=right.user, password="wrong", timeout=DEADLINE)
    for path in file.parent.iterdir():
        shutil.copy(path, server_file().parent)
    with pytest.raises(
        AuthenticationError, match=r"the same verifier of alice as .*, so the password is wrong"
    ):
        pconnect(server.host, user=right.user, password="wrong", timeout=DEADLINE)


def speak(listener: socket.socket, *words: bytes) -> threading.Thread:
    """Answer one connection with these words, one after each message received."""

    def serve() -> None:
        sock, _ = listener.accept()
        with sock, contextlib.suppress(ConnectionError):  # the client may close with unread data
            for word in words:
                sock.recv(4096)
                sock.sendall(word)
            sock.recv(4096)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n" + bytes(100), "not a pserver"),
        (Preamble(Purpose.NEEDS_TLS).pack(), "this server uses TLS"),
        (
            Preamble(Purpose.ACCEPTED).pack() + b"\0\x03\x90\x91\x01",
            "the server sent an invalid offer",
        ),
    ],
)
def test_peers_that_do_not_speak_the_protocol(answer: bytes, reason: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = speak(listener, answer)
        with pytest.raises(ConnectError, match=reason) as error:
            pconnect(("127.0.0.1", listener.getsockname()[1]), use_tls=False, timeout=DEADLINE)
        thread.join(DEADLINE)
    (label,) = error.value.reasons
    assert label.startswith("127.0.0.1:")


OWN, OTHER = ServerKey(b"\1" * SEED_BYTES), ServerKey(b"\2" * SEED_BYTES)


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        # It has the user's verifier, and names the id of another server.
        ({"server": OTHER.id, "proof": OWN.prove(b"hello")}, "does not prove that it has the id"),
        # It presents the signature of that server, made for its own login there.
        ({"server": OTHER.id, "proof": OTHER.prove(b"hello of another login")}, "does not prove"),
        ({"server": OTHER.id}, "does not prove"),
    ],
    ids=range(3),
)
def test_a_server_with_the_verifier_cannot_say_that_it_is_another_one(
    offer: dict[str, object], why: str
) -> None:
    whole = {"key": NodeKey().public_bytes(), "data_port": 1, "addresses": [], "version": VERSION, **offer}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            sock.setblocking(False)
            with sock, contextlib.suppress(OSError):
                steps.run(
                    accept_login(sock, lambda _: VERIFIER, encoder.pack(whole)), deadline_after(DEADLINE)
                )

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ConnectError, match=why):
            pconnect(
                ("127.0.0.1", listener.getsockname()[1]),
                user=ALICE.user,
                password=ALICE.password,
                timeout=DEADLINE,
            )
        thread.join(DEADLINE)


def test_a_real_server_proves_its_id_in_each_login(server: Server) -> None:
    found = []
    terms = make_terms(server.credentials, Limits(), DEADLINE, local_links=False)
    for _ in range(2):
        channel, id_ = steps.run(open_control(parse_hosts(server.host)[0], terms), deadline_after(DEADLINE))
        channel.close()
        found.append(id_)
    assert found[0] == found[1] and len(found[0]) == 32
