"""The login of a client in an unprivileged process, for a server that root started.

Anyone who can reach the command port can send bytes to a login. So the login runs in its own process, which has the
account ``nobody``, cannot start processes or open files, and has only one secret: the verifier of the user that the
client named. It sends the session the name of the user and the client's answer, and the session checks them.

The verifier comes from another process, which reads the file of all users and ends immediately. Its exit code tells the
session whether the user has a verifier. So neither the session, nor the login, nor later children of the session ever
have more than one verifier in memory. The session itself still runs as root. It gets data from the client only through
the login, after the client has proved its password.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from pserver.accounts.privileges import confine
from pserver.config.session_settings import SessionSettings, seed_folder
from pserver.spawner.forked_process import ForkedProcess
from pserver.system.descriptors import json_object
from pserver.system.log import take_down
from srp_tools import steps
from srp_tools.errors import AuthenticationError, ConnectionLostError, ParallelError
from srp_tools.login import accept_login
from srp_tools.srp_groups import GROUPS
from srp_tools.steps import Steps, deadline_after
from srp_tools.verifier import Verifier
from srp_tools.verifier_file import VerifierFile

_MESSAGE_BYTES = 2**17  # an answer has at most 16 KiB, and twice as many hexadecimal digits
_END_SECONDS = 1.0  # for a process that has finished its work to end
_MAX_REASON = 1000  # characters
_NO_VERIFIER = 3  # exit code of the reading process if the user has no verifier
_STOPPED = "the process that logs clients in has ended"
_FORGED = "the process that logs clients in reports a password proof for a user without a password"


class LoginApart:
    """The login of a client, and its processes.

    The constructor forks the processes, so they do not have secrets that this process creates later, such as the key of
    a node.

    `file`: the users' file. `is_known`: whether the user that the client named may log in at all; if not, the client
    gets the same answers as for an unknown name.

    Raises `OSError` if the system allows no more processes or descriptors.
    """

    def __init__(
        self, sock: socket.socket, settings: SessionSettings, file: Path, received: bytes, *, is_known: bool
    ) -> None:
        self._user = settings.user
        self._processes: list[ForkedProcess] = []
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        source, sink = os.pipe()
        keep = [sock.fileno(), theirs.fileno(), source]
        try:
            self._fork(lambda: _read_verifier(file, settings, sink, is_known=is_known))
            os.close(sink)
            sink = -1
            self._fork(lambda: _log_in(keep, settings, received))
        except BaseException:
            self._end()
            raise
        finally:
            theirs.close()
            for end in (source, sink):
                if end >= 0:
                    os.close(end)

    def _fork(self, work: Callable[[], object]) -> None:
        self._processes.append(ForkedProcess(work))

    def log_in(self, offer: bytes) -> Steps[tuple[str, bytes]]:
        """Let the client log in; return the user's name and the client's answer, as `accept_login` does.

        Raises what `accept_login` raises.
        """
        try:
            self._ours.send(offer)
            self._ours.setblocking(False)
            yield steps.Wait(self._ours.fileno())
            outcome = _read_outcome(self._ours.recv(_MESSAGE_BYTES), self._user)
            if self._processes[0].wait(_END_SECONDS) != 0:
                raise ConnectionLostError(_FORGED)
            return outcome
        finally:
            self._end()

    def _end(self) -> None:
        self._ours.close()
        for process in self._processes:
            process.end(_END_SECONDS)


def _read_outcome(data: bytes, user: str) -> tuple[str, bytes]:
    match json_object(data):
        case {"user": str(name), "answer": str(answer)}:
            if name != user:
                raise ConnectionLostError("the client has named two different users")
            with contextlib.suppress(ValueError):
                return name, bytes.fromhex(answer)
        case {"refused": str(reason)}:
            raise AuthenticationError(reason[:_MAX_REASON])
        case {"late": str(reason)}:
            raise TimeoutError(reason[:_MAX_REASON])
        case {"failed": str(reason)}:
            raise ConnectionLostError(reason[:_MAX_REASON])
    raise ConnectionLostError(_STOPPED)


# --- the process that reads the users' file ---


def _read_verifier(file: Path, settings: SessionSettings, sink: int, *, is_known: bool) -> None:
    words: dict[str, object]
    has_found = False
    try:
        found = VerifierFile(file, seed_folder(settings.kept)).lookup(settings.user, is_known=is_known)
        words = {"bits": found.group.bits, "salt": found.salt.hex(), "verifier": f"{found.verifier:x}"}
        has_found = not found.is_simulated
    except (ParallelError, OSError) as error:
        words = {"failed": str(error)}
    os.write(sink, json.dumps(words).encode())  # fits into the buffer of a pipe
    sys.exit(0 if has_found else _NO_VERIFIER)


# --- the process that talks to the client ---


def _log_in(keep: list[int], settings: SessionSettings, received: bytes) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    take_down()  # `confine` reuses the number of the log's descriptor
    numbers = confine(keep)
    sock, outcome = (socket.socket(fileno=number) for number in numbers[:2])
    offer = outcome.recv(_MESSAGE_BYTES)
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
        raise TimeoutError(f"timed out after {settings.login_timeout:g} s waiting for the verifier")
    words = os.read(source, _MESSAGE_BYTES)
    os.close(source)
    found = json.loads(words or b'{"failed": "the process that reads the verifiers has ended"}')
    if "failed" in found:
        raise ConnectionLostError(found["failed"])
    salt, number = bytes.fromhex(found["salt"]), int(found["verifier"], 16)
    return Verifier(settings.user, salt, GROUPS[found["bits"]], number)
