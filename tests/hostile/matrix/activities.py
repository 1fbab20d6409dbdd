"""A client's activities when a fault strikes: each is a generator that stops in the middle, then checks its work.

The first node is on the faulty server. The second is on another server.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pconnect import pconnect, precv, psend, reval
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE, wait_until

_ARRAYS = 6
_JOBS = 16
_KEPT_JOBS = 4
_PATIENCE = 8.0  # seconds while the fault lasts, which may prevent logins
# A job ends soon after the fault has struck: the server's account sees this folder, too.
_JOB = """
def job(k, go={go!r}):
    import os, time
    for _ in range(4000):
        if os.path.exists(go):
            break
        time.sleep(0.01)
    return k * k
"""


@dataclass
class Work:
    """A client's network and its other requirements."""

    net: ClientNetwork
    login: dict[str, Any]
    go: Path  #: a folder: when it exists, jobs end
    detaches_early: (
        bool  #: whether the fault strikes during detached jobs, or in the client that detaches them
    )
    token: str = ""  #: the token of a detached network that was not recovered

    def recover(self, timeout: float = DEADLINE) -> None:
        """Resume the detached work, and check the results."""
        self.go.mkdir(exist_ok=True)  # this needs no descriptor
        self.net = pconnect(recover=self.token, timeout=timeout, **self.login)
        assert [job.result(DEADLINE) for job in self.net.jobs.values()] == [k * k for k in range(_KEPT_JOBS)]
        self.token = ""

    def job(self) -> Callable[[int], int]:
        """Return a function that returns when the fault has struck."""
        names: dict[str, Any] = {}
        exec(_JOB.format(go=str(self.go)), names)
        function: Callable[[int], int] = names["job"]
        return function


Activity = Callable[[Work], Iterator[None]]
TOKEN = Path("token")


def check(net: ClientNetwork) -> None:
    """Check that all nodes compute and can reach each other."""
    nodes = range(1, len(net))
    assert net.eval("sockets.node").result(DEADLINE) == list(nodes)
    members = f"sockets[{list(nodes)}]"
    assert net.eval(f"allreduce(sockets.node, {members})").result(DEADLINE) == [sum(nodes)] * len(nodes)


def have_workers(net: ClientNetwork) -> None:
    """Make sure that each node has a worker."""
    jobs = [net[[node]].submit(pow, 2, 5) for node in (1, 2)]
    assert [job.result(DEADLINE) for job in jobs] == [32, 32]


def idle(work: Work) -> Iterator[None]:
    """Do nothing, then something small."""
    yield
    check(work.net)


def transfer(work: Work) -> Iterator[None]:
    """Send arrays from the client through both nodes and back; stop where one is half sent."""
    net = work.net
    arrays = [np.frombuffer(secrets.token_bytes(2**20), np.uint8) for _ in range(_ARRAYS)]
    commands = [
        reval(f"for _ in range({_ARRAYS}): psend(precv(sockets[{source}]), sockets[{target}])", net[node])
        for node, source, target in ((1, 0, 2), (2, 1, 0))
    ]
    psend(arrays[0], net[1], timeout=DEADLINE)
    assert np.array_equal(precv(net[2], timeout=DEADLINE), arrays[0])
    with contextlib.suppress(TimeoutError):  # the next call finishes it
        psend(arrays[1], net[1], timeout=0.0005)
    yield
    for array in arrays[2:]:
        psend(array, net[1], timeout=DEADLINE)
    for array in arrays[1:]:
        assert np.array_equal(precv(net[2], timeout=DEADLINE), array)
    for command in commands:
        command.result(DEADLINE)


def map_(work: Work) -> Iterator[None]:
    """Map jobs over the workers of both nodes; stop while each worker has some."""
    executor = work.net.executor(retries=3)
    jobs = [executor.submit(work.job(), k) for k in range(_JOBS)]
    wait_until(lambda: {1, 2} <= {job.node for job in jobs if job.running()}, "jobs on both nodes")
    yield
    work.go.mkdir(exist_ok=True)
    assert [job.result(DEADLINE) for job in jobs] == [k * k for k in range(_JOBS)]


def _put_in_part(node: Any, file: Path) -> None:
    """Send part of a new file; the next call continues it."""

    def keeps_part(name: str, most: int) -> bool:
        """Return whether at most `most` bytes of a file have arrived; remove it otherwise. Runs on the node."""
        import tempfile
        from pathlib import Path

        paths = list(Path(tempfile.gettempdir()).glob(f"pserver-*/files/*{name}*"))
        if sum(path.stat().st_size for path in paths) <= most:
            return True
        for path in paths:
            path.unlink()
        return False

    size = 8 * 2**20
    for attempt in range(1, 100):
        file.write_bytes(secrets.token_bytes(size))
        with contextlib.suppress(TimeoutError):
            node.put(file, timeout=0.01 / attempt)
        if node.apply(keeps_part, file.name, size // 2).result(DEADLINE):  # at most half has arrived
            return
    raise AssertionError("the file always arrived before the time was up")


def put(work: Work) -> Iterator[None]:
    """Send a large file and fetch it back; stop where it is half sent."""
    node = work.net[1]
    there, back = Path("there"), Path("back")
    try:
        _put_in_part(node, there)
        yield
        node.put(there, timeout=DEADLINE)
        node.get("there", back, timeout=DEADLINE)
        assert back.read_bytes() == there.read_bytes()
    finally:
        there.unlink()
        back.unlink(missing_ok=True)


def restart(work: Work) -> Iterator[None]:
    """Restart the first node's engine twice."""
    work.net[1].restart(timeout=DEADLINE)
    check(work.net)
    have_workers(work.net)
    yield
    work.net[1].restart(timeout=_PATIENCE)
    check(work.net)


def detach(work: Work) -> Iterator[None]:
    """Leave jobs to the servers, and collect their results in another network."""
    executor = work.net.executor(retries=3)
    jobs = [executor.submit(work.job(), k) for k in range(_KEPT_JOBS)]
    # A queued job would need its engine to fork a worker for it. Each node already has a worker.
    wait_until(lambda: all(job.running() for job in jobs), "all jobs to run")
    assert any(job.node == 1 for job in jobs)
    if not work.detaches_early:
        yield
    work.token = work.net.detach(path=TOKEN, timeout=DEADLINE)
    if work.detaches_early:
        yield
    assert TOKEN.read_text() == work.token + "\n"
    work.recover(_PATIENCE)


ACTIVITIES: dict[str, Activity] = {
    "idle": idle,
    "transfer": transfer,
    "map": map_,
    "put": put,
    "restart": restart,
    "detach": detach,
}
