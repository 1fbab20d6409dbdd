"""Clients in separate processes: one works when the fault strikes, one works all the time, one logs in.

All of them see the server's small disks, and run under an account other than the server's.
"""

import contextlib
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pconnect import network_get_info, pconnect
from pconnect.views.network_views import ClientNetwork
from tests.hostile.matrix.activities import ACTIVITIES, TOKEN, Work, check, have_workers
from tests.hostile.matrix.house import Address
from tests.support.accounts import enter_mounts, take_on
from tests.support.waiting import DEADLINE

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.hostile.matrix.clients", "pconnect", "numpy", "cryptography.x509"])
_PAUSE = 0.06  # seconds between two rounds of the bystander


class Client:
    """A client and our end of the pipe to it."""

    def __init__(self, role: "Role", address: Address, *arguments: object) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_be_client, args=(role, theirs, address, arguments))
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def hear(self, timeout: float = DEADLINE) -> dict[str, Any]:
        """Return its next message, or nothing if it has ended."""
        assert self._pipe.poll(timeout), f"timed out after {timeout:g} s waiting for the client"
        try:
            said: dict[str, Any] = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            return {}
        assert "broken" not in said, said["broken"]
        return said

    def can_hear(self, timeout: float) -> bool:
        """Return whether it sends something within some seconds, or ends."""
        return self._pipe.poll(timeout)

    def tell(self, word: str) -> None:
        """Send it a message; it may have ended."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(word)

    def ask(self, word: str, timeout: float = DEADLINE) -> dict[str, Any]:
        """Send it a message and return its answer."""
        self.tell(word)
        return self.hear(timeout)

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self.process.join(2.0)
        if self.process.is_alive():
            os.kill(self.pid, signal.SIGCONT)
            self.process.kill()
            self.process.join(DEADLINE)
        self.process.close()


Role = Callable[..., None]


def _be_client(role: Role, pipe: Connection, address: Address, arguments: tuple[Any, ...]) -> None:
    enter_mounts(address.namespace)
    os.chdir(address.folder)
    os.environ["TMPDIR"] = str(address.folder)
    take_on(address.account, may_read_all=True)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the test has ended it
        try:
            role(pipe, address, *arguments)
        except EOFError:
            raise
        except BaseException as error:
            pipe.send({"broken": repr(error)})
            raise


def _connect(address: Address, count: int, timeout: float = DEADLINE) -> ClientNetwork:
    return pconnect(
        list(address.hosts[:count]), user=address.user, password=address.password, timeout=timeout
    )


# --- the one that works when the fault strikes ---


def worker(pipe: Connection, address: Address, activity: str, detaches_early: bool) -> None:
    """Work, pause in the middle until told to resume, and report the outcome and the usable nodes."""
    warnings.simplefilter("ignore")  # further errors; the first one raised represents them
    work = _work(address, _connect(address, 2), detaches_early=detaches_early)
    have_workers(work.net)
    engine = _engine(work.net)
    steps = ACTIVITIES[activity](work)
    next(steps)
    # The engine may be a new one now; for a detached network, this cannot be known.
    pipe.send({"network": work.net.network_id, "engine": engine if work.net.closed else _engine(work.net)})
    assert pipe.recv() == "struck"
    begin = time.monotonic()
    outcome = _outcome(lambda: next(steps, None))
    pipe.send(outcome | {"seconds": time.monotonic() - begin})
    assert pipe.recv() == "over"
    work.go.mkdir(exist_ok=True)
    if work.token and outcome["error"] != "JobLostError":
        work.recover()
    if not work.net.closed:
        pipe.send({node: _use(work.net, node) for node in (1, 2)})
        work.net.close()
    else:
        pipe.send({})
    TOKEN.unlink(missing_ok=True)
    work.go.rmdir()
    pipe.recv()


def heir(pipe: Connection, address: Address, activity: str) -> None:
    """Replace a killed client: recover its detached work with the token that it has left."""
    work = _work(address, None)
    outcome: dict[str, Any] = {"error": "gone"}
    if activity == "detach":
        work.token = TOKEN.read_text().strip()
        outcome = _outcome(work.recover)
        work.net.close()
    for path in Path().iterdir():
        path.unlink()
    with contextlib.suppress(FileNotFoundError):
        work.go.rmdir()
    pipe.send(outcome)


def _work(address: Address, net: Any, *, detaches_early: bool = True) -> Work:
    login = {"user": address.user, "password": address.password}
    return Work(net, login, address.signals / "go", detaches_early)


def _outcome(attempt: Callable[[], object]) -> dict[str, Any]:
    """Return an outcome as plain data; for errors of several nodes, the first."""
    try:
        attempt()
    except Exception as raised:  # noqa: BLE001 - errors are the subject of the table
        error: BaseException = raised
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"error": kinds[0], "text": str(error), "kinds": kinds}
    return {"error": None, "text": "", "kinds": []}


def _engine(net: ClientNetwork) -> int:
    return int(network_get_info(net)[1]["pid"])


def _use(net: ClientNetwork, node: int) -> str:
    """Report whether a node is usable: as it is, after a restart, or not at all."""
    for way in ("works", "restart"):
        try:
            if way == "restart":
                net[node].restart(timeout=DEADLINE)
            assert net[node].eval("sockets.node").result(DEADLINE) == node
            return way
        except Exception as error:  # noqa: BLE001 - then try the next way
            last = error
    return f"lost: {last!r}"


# --- the one that works all the time ---


def bystander(pipe: Connection, address: Address) -> None:
    """Compute, send and run jobs, and count the rounds."""
    with _connect(address, 2) as net, net.executor() as executor:
        net.eval("(session_files / 'mark').write_text('mine')").result(DEADLINE)
        turns, longest = 0, 0.0
        while True:
            begin = time.monotonic()
            check(net)
            assert net.eval("(session_files / 'mark').read_text()").result(DEADLINE) == ["mine"] * 2
            if turns % 5 == 0:
                assert executor.submit(pow, turns, 2).result(DEADLINE) == turns**2
            turns += 1
            longest = max(longest, time.monotonic() - begin)
            if pipe.poll(_PAUSE):
                pipe.recv()
                pipe.send({"turns": turns, "longest": longest, "network": net.network_id})
                longest = 0.0


# --- the one that logs in ---


def visitor(pipe: Connection, address: Address) -> None:
    """Log in on command, with a given time limit in seconds, and report the outcome."""

    def log_in() -> None:
        with _connect(address, 1, seconds) as net:
            assert net.eval("sockets.node").result(DEADLINE) == [1]

    while True:
        seconds = float(pipe.recv())
        pipe.send(_outcome(log_in))
