"""The server's side of a login, in cases that the integration tests with real servers do not reach."""

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import AuthenticationError, ConnectionLostError, ProtocolError, ServerRefusedError
from pconnect.protocol.frames import PREAMBLE_BYTES, VERSION, Preamble, Purpose
from pconnect.values import decoder, encoder
from pserver.config.session_settings import SessionSettings
from pserver.session.login import _read_answer, accept_client, admit, tell_failure
from srp_tools.credentials import Credentials
from srp_tools.login import log_in
from srp_tools.steps import deadline_after, run, run_all
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile

SETTINGS = SessionSettings(
    auth_file=None,
    data_port=12501,
    bind=["127.0.0.1"],
    login_timeout=5,
    proof_timeout=5,
    log_file=None,
    peer="a test",
    user="",
    kept=Path("nowhere"),
    sessions_path=Path("nowhere"),
)
PREAMBLE = Preamble(Purpose.COMMAND, bytes(range(16)), 0, 3)


@pytest.mark.parametrize("answer", [b"ok", b"taken"])
def test_without_encryption_the_daemon_decides_by_network_and_node(answer: bytes) -> None:
    near, far = socket.socketpair()
    control, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    daemon.send(answer)
    with near, far, control, daemon:
        client = run(accept_client(near, SETTINGS, PREAMBLE.pack()), deadline_after(5))
        assert (client.network_id, client.node, client.tls) == (PREAMBLE.network_id, 3, None)
        if answer == b"ok":
            admit(client, control, [near, far, control], deadline_after(5))
        else:
            with pytest.raises(ProtocolError, match=r"already has node 3 of network 0001"):
                admit(client, control, [near, far, control], deadline_after(5))
        data, descriptors, _, _ = socket.recv_fds(daemon, 1000, 3)
        assert len(descriptors) == 3
        for descriptor in descriptors:
            socket.close(descriptor)
        assert b'"key": "", "node": 3' in data
        said = far.recv(10_000)
        assert Preamble.unpack(said[:PREAMBLE_BYTES]).purpose is Purpose.ACCEPTED
        begin = PREAMBLE_BYTES + 2
        size = int.from_bytes(said[PREAMBLE_BYTES:begin], "big")
        offer: Any = decoder.unpack(said[begin : begin + size])
        assert offer["data_port"] == 12501


@pytest.mark.parametrize(("allowed", "is_let_in"), [([], True), (["alice", "bob"], True), (["bob"], False)])
def test_a_user_who_is_not_allowed_here_is_like_an_unknown_one(
    tmp_path: Path, allowed: list[str], is_let_in: bool
) -> None:
    alice = Credentials("alice", "password")
    file = tmp_path / "users" / "tpasswd"
    VerifierFile(file).add(make_verifier(alice, 2048))
    settings = dataclasses.replace(SETTINGS, auth_file=file, allow_users=allowed)
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        steps: dict[str, Any] = {
            "server": accept_client(near, settings, b""),
            "client": log_in(far, alice, lambda _: b"no answer"),
        }
        outcomes = run_all(steps, deadline_after(10))
    if is_let_in:
        assert outcomes["client"] is None
        assert isinstance(outcomes["server"], ProtocolError)  # which it reads after the login
    else:
        for outcome in outcomes.values():
            assert isinstance(outcome, AuthenticationError)
            assert "the user name or the password was not accepted" in str(outcome)


def test_the_daemon_hears_of_a_failed_login() -> None:
    control, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with control, daemon:
        for error in (AuthenticationError("no"), ConnectionLostError("gone")):
            tell_failure(control, "mallory", error)
            expected = {"user": "mallory", "reason": str(error), "is_refused": str(error) == "no"}
            expected["has_proved"] = False
            assert json.loads(daemon.recv(1000)) == {"failed": expected}
        for reason in ("x" * 100_000, "é" * 100_000):  # within the size limit of the daemon's messages
            tell_failure(control, "\0" * 255, ConnectionLostError(reason))
            told = json.loads(daemon.recv(4096))["failed"]["reason"]
            assert told.startswith(reason[:100]) and told.endswith("…")
    # The daemon has ended, so no process reads it.
    tell_failure(control, "mallory", AuthenticationError("no"))


def test_a_daemon_that_stops_admits_nobody() -> None:
    near, far = socket.socketpair()
    control, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    with near, far, control, daemon:
        client = run(accept_client(near, SETTINGS, PREAMBLE.pack()), deadline_after(5))
        daemon.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionLostError, match="the server is stopping"):
            admit(client, control, [near, far, control], deadline_after(5))


def test_a_server_that_has_become_full_meanwhile_lets_nobody_in_more() -> None:
    near, far = socket.socketpair()
    control, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    daemon.send(b"there are 2, and its administrator allows 2")
    with near, far, control, daemon:
        client = run(accept_client(near, SETTINGS, PREAMBLE.pack()), deadline_after(5))
        with pytest.raises(ServerRefusedError, match="there are 2, and its administrator allows 2"):
            admit(client, control, [near, far, control], deadline_after(5))


@pytest.mark.parametrize("node", [0, -1, 2**32, 10**400, 1.0, None])
def test_a_node_has_a_number_that_preambles_have_room_for(node: object) -> None:
    answer = {"version": VERSION, "network": bytes(16), "network_key": b"", "node": node}
    with pytest.raises(ProtocolError, match="it does not name a node"):
        _read_answer(encoder.pack(answer), None)
    assert _read_answer(encoder.pack(answer | {"node": 2**32 - 1}), None).node == 2**32 - 1
