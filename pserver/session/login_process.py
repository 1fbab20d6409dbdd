"""The login of a client in a process that has no rights, for a server of root.

Whoever can reach the command port can send bytes to a login. So the login runs in a process of its own, which has
the account ``nobody``, cannot start a process or open anything, and has no secret but one verifier: that of the user
that the client has named. What it says to the session is the name of the user, and the client's answer; these are
checked here. What it has been given for a user who may not log in proves nothing, so that no success can follow.

The verifier comes from another process, which has read the file of all users and ends at once. So neither the session
nor the login, nor what is forked from the session later, ever has more in its memory. The session itself is still
root's; it hears of the client only what the login passes on, once the client has proved its password.
"""

import json
import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pserver.accounts.privileges import confine
from pserver.config.session_settings import SessionSettings, seed_folder
from pserver.spawner.forked_process import ForkedProcess
from srp_tools import steps
from srp_tools.errors import AuthenticationError, ConnectionLostError, ParallelError
from srp_tools.login import accept_login
from srp_tools.srp_groups import GROUPS
from srp_tools.steps import Steps, deadline_after
from srp_tools.verifier import Verifier
from srp_tools.verifier_file import VerifierFile

log = logging.getLogger("pserver")

_MESSAGE_BYTES = 2**17  # an answer has at most 16 KiB, and twice as many letters
_END_SECONDS = 1.0  # for a process that has nothing left to do
_REAL = b"1"  # a verifier of the file was given to the login, and none that is simulated
_STOPPED = "the process that logs clients in has ended"


def log_in_apart(
    sock: socket.socket,
    settings: SessionSettings,
    file: Path,
    offer: bytes,
    received: bytes,
    *,
    is_known: bool,
) -> Steps[tuple[str, bytes]]:
    """Let a client log in; return the user's name and the client's answer, as `accept_login` does.

    `file`: the file of verifiers. `is_known`: whether the user that the client has named may log in at all; if not, the
    client sees what it would see for a name that is in no file.

    Raises what `accept_login` raises.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source, sink = os.pipe()
    verdict, its_verdict = os.pipe()
    processes: list[ForkedProcess] = []
    try:
        with ours:
            try:
                name = settings.user if is_known else f":{settings.user}"
                processes.append(
                    ForkedProcess(lambda: _read_verifier(file, settings, name, sink, its_verdict))
                )
                for end in (sink, its_verdict):
                    os.close(end)
                sink = its_verdict = -1
                keep = [sock.fileno(), theirs.fileno(), source]
                processes.append(ForkedProcess(lambda: _log_in(keep, settings, offer, received)))
            finally:
                theirs.close()
                for end in (source, sink, its_verdict):
                    if end >= 0:
                        os.close(end)
            ours.setblocking(False)
            yield steps.Wait(ours.fileno())
            outcome = _read_outcome(ours.recv(_MESSAGE_BYTES), settings.user)
            yield steps.Wait(verdict)
            if os.read(verdict, 1) != _REAL:
                log.error(
                    "the process that logs clients in has let in a user who cannot log in: %.200r", outcome[0]
                )
                raise ConnectionLostError(_STOPPED)
            return outcome
    finally:
        os.close(verdict)
        for process in processes:
            process.end(_END_SECONDS)


def _read_outcome(data: bytes, user: str) -> tuple[str, bytes]:
    try:
        words: Any = json.loads(data) if data else {}
    except ValueError:
        words = {}
    match words:
        case {"user": str(name), "answer": str(answer)}:
            if name != user:
                raise ConnectionLostError("the client has named two users")
            return name, bytes.fromhex(answer)
        case {"refused": str(reason)}:
            raise AuthenticationError(reason)
        case {"late": str(reason)}:
            raise TimeoutError(reason)
        case {"failed": str(reason)}:
            raise ConnectionLostError(reason)
    raise ConnectionLostError(_STOPPED)


# --- the process that has read all verifiers ---


def _read_verifier(file: Path, settings: SessionSettings, name: str, sink: int, verdict: int) -> None:
    """Pass on the verifier of a user, and tell the session whether it is one of the file."""
    words: dict[str, object]
    try:
        found = VerifierFile(file, seed_folder(settings.kept)).lookup(name)
        words = {"bits": found.group.bits, "salt": found.salt.hex(), "verifier": f"{found.verifier:x}"}
    except (ParallelError, OSError) as error:
        words = {"failed": str(error)}
    else:
        if not found.is_simulated:
            os.write(verdict, _REAL)
    os.write(sink, json.dumps(words).encode())  # less than a pipe takes at once


# --- the process that talks to the client ---


def _log_in(keep: list[int], settings: SessionSettings, offer: bytes, received: bytes) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    numbers = confine(keep)
    sock, outcome = (socket.socket(fileno=number) for number in numbers[:2])
    said = _attempt(lambda: _prove(sock, numbers[2], settings, offer, received))
    outcome.send(json.dumps(said).encode())


def _attempt(work: Callable[[], tuple[str, bytes]]) -> dict[str, str]:
    try:
        user, answer = work()
    except AuthenticationError as error:
        return {"refused": str(error)}
    except TimeoutError as error:
        return {"late": str(error)}
    except (ParallelError, OSError) as error:
        return {"failed": str(error)}
    return {"user": user, "answer": answer.hex()}


def _prove(
    sock: socket.socket, source: int, settings: SessionSettings, offer: bytes, received: bytes
) -> tuple[str, bytes]:
    verifier = _receive_verifier(source, settings)
    work = accept_login(sock, lambda _: verifier, offer, received, deadline_after(settings.proof_timeout))
    return steps.run(work, deadline_after(settings.login_timeout))


def _receive_verifier(source: int, settings: SessionSettings) -> Verifier:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    if not poll.poll(settings.login_timeout * 1000):
        raise TimeoutError("the verifier was not read in time")
    words = os.read(source, _MESSAGE_BYTES)
    os.close(source)
    found = json.loads(words or b'{"failed": "the process that reads the verifiers has ended"}')
    if "failed" in found:
        raise ConnectionLostError(found["failed"])
    salt, number = bytes.fromhex(found["salt"]), int(found["verifier"], 16)
    return Verifier(settings.user, salt, GROUPS[found["bits"]], number)
