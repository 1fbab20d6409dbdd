"""The login of a client in a process that has no rights, for a server of root.

Whoever can reach the command port can send bytes to a login. So the login runs in a process of its own, which has
the account ``nobody``, cannot start a process or open anything, and has no secret but one verifier: that of the user
that the client has named. What it says to the session is the name of the user, and the client's answer; these are
checked here.

The verifier comes from another process, which has read the file of all users and ends at once; whether there was one,
it says to the session, too. So neither the session nor the login, nor what is forked from the session later, ever has
more in its memory. The session itself is still root's; it hears of the client only what the login passes on, once the
client has proved its password.
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

_MESSAGE_BYTES = 2**17  # an answer has at most 16 KiB, and twice as many letters
_END_SECONDS = 1.0  # for a process that has nothing left to do
_MAX_REASON = 1000  # characters
_NO_VERIFIER = 3  # how the process ends that has found none
_STOPPED = "the process that logs clients in has ended"
_FORGED = "the process that logs clients in says that a user has proved a password who has none here"


class LoginApart:
    """The login of a client, and the processes in which it goes on.

    They are forked here, so they know nothing that this process makes afterwards, such as the key of a node.

    `file`: the file of verifiers. `is_known`: whether the user that the client has named may log in at all; if not, the
    client sees what it would see for a name that is in no file.

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
                raise ConnectionLostError("the client has named two users")
            with contextlib.suppress(ValueError):
                return name, bytes.fromhex(answer)
        case {"refused": str(reason)}:
            raise AuthenticationError(reason[:_MAX_REASON])
        case {"late": str(reason)}:
            raise TimeoutError(reason[:_MAX_REASON])
        case {"failed": str(reason)}:
            raise ConnectionLostError(reason[:_MAX_REASON])
    raise ConnectionLostError(_STOPPED)


# --- the process that has read all verifiers ---


def _read_verifier(file: Path, settings: SessionSettings, sink: int, *, is_known: bool) -> None:
    words: dict[str, object]
    has_found = False
    try:
        found = VerifierFile(file, seed_folder(settings.kept)).lookup(settings.user, is_known=is_known)
        words = {"bits": found.group.bits, "salt": found.salt.hex(), "verifier": f"{found.verifier:x}"}
        has_found = not found.is_simulated
    except (ParallelError, OSError) as error:
        words = {"failed": str(error)}
    os.write(sink, json.dumps(words).encode())  # less than a pipe takes at once
    sys.exit(0 if has_found else _NO_VERIFIER)


# --- the process that talks to the client ---


def _log_in(keep: list[int], settings: SessionSettings, received: bytes) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    take_down()  # the number of the log's descriptor is another's from now on
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
        raise TimeoutError("the verifier was not read in time")
    words = os.read(source, _MESSAGE_BYTES)
    os.close(source)
    found = json.loads(words or b'{"failed": "the process that reads the verifiers has ended"}')
    if "failed" in found:
        raise ConnectionLostError(found["failed"])
    salt, number = bytes.fromhex(found["salt"]), int(found["verifier"], 16)
    return Verifier(settings.user, salt, GROUPS[found["bits"]], number)
