"""One network in many threads: each thread gets its own results, whichever thread serves the connections."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest

from pconnect import ConnectionLostError, local_network, network_get_info, precv, psend, reval
from pconnect.views.network_views import ClientNetwork

LIMIT = 60.0
_THREADS = 8


class Work:
    """Threads that use one network for a given time; each reports its number of rounds and its errors."""

    def __init__(self, net: ClientNetwork, seconds: float) -> None:
        self.net = net
        self.counts: dict[str, int] = {}
        self.errors: list[BaseException] = []
        self._deadline = time.monotonic() + seconds

    def steps(self, name: str) -> "list[int]":
        """Return the next number of a kind of work, or nothing once the time is up."""
        if self.errors or time.monotonic() > self._deadline:
            return []
        self.counts[name] = self.counts.get(name, 0) + 1
        return [self.counts[name]]

    def eval(self, name: str) -> None:
        while step := self.steps(name):
            assert self.net[2].eval(f"{step[0]} * 3").result(LIMIT) == step[0] * 3

    def echo(self, name: str) -> None:
        tag = len(name) + 100
        while step := self.steps(name):
            value = [name, step[0], bytes(step[0] % 7 * 20_000)]
            psend(value, self.net[1], tag=tag, timeout=LIMIT)
            assert precv(self.net[1], tag=tag, timeout=LIMIT) == value
        psend(None, self.net[1], tag=tag)

    def map(self, name: str) -> None:
        while step := self.steps(name):
            assert list(self.net[[2]].map(abs, [step[0], -step[0]])) == [step[0]] * 2

    def info(self, name: str) -> None:
        while self.steps(name):
            assert [info["state"] for info in network_get_info(self.net)] == ["open"] * 3

    def run(self, works: Mapping[str, Callable[[str], None]], beside: Callable[[], object]) -> None:
        """Run all of them in threads, and a further function in this one."""

        def attempt(work: Callable[[str], None], name: str) -> None:
            try:
                work(name)
            except BaseException as error:  # noqa: BLE001 - reported below
                self.errors.append(error)

        threads = [threading.Thread(target=attempt, args=(work, name)) for name, work in works.items()]
        for thread in threads:
            thread.start()
        beside()
        for thread in threads:
            thread.join(LIMIT)
        assert self.errors == []
        assert not any(thread.is_alive() for thread in threads)
        assert self.counts.keys() >= works.keys()


def work_in_threads(seconds: float, beside: Callable[[Work], object]) -> dict[str, int]:
    with local_network(2, slots=2) as net:
        work = Work(net, seconds)
        # One engine runs the loop that sends back, so all others use the second.
        tags = [len(name) + 100 for name in ("echo", "echo 2x")]
        echo = reval(
            "import threading\n"
            "def echo(tag):\n"
            "    while (value := precv(sockets[0], tag=tag)) is not None:\n"
            "        psend(value, sockets[0], tag=tag)\n"
            f"threads = [threading.Thread(target=echo, args=(tag,)) for tag in {tags}]\n"
            "for thread in threads: thread.start()\n"
            "for thread in threads: thread.join()",
            net[1],
        )
        works = {
            "eval": work.eval,
            "eval 2": work.eval,
            "eval 3": work.eval,
            "echo": work.echo,
            "echo 2x": work.echo,
            "map": work.map,
            "info": work.info,
            "info 2": work.info,
        }
        assert len(works) == _THREADS
        work.run(works, lambda: beside(work))
        echo.result(LIMIT)
        assert net.eval("sockets.node").result(LIMIT) == [1, 2]
        return work.counts


def wait(work: Work) -> None:
    while work.steps("main"):
        assert work.net[2].eval("1").result(LIMIT) == 1


def use_asyncio(work: Work) -> None:
    """Await commands, groups and jobs in two event loops in turn."""

    async def one(index: int) -> None:
        while step := work.steps(f"asyncio {index}"):
            assert await work.net[2].eval(f"{step[0]} + {index}") == step[0] + index
            assert await work.net[[2]].eval("1") == [1]
            assert await work.net.submit(pow, 2, index) == 2**index

    async def all_of_them() -> None:
        await asyncio.gather(*(one(index) for index in range(3)))

    asyncio.run(asyncio.wait_for(asyncio.sleep(0), 1))
    asyncio.run(all_of_them())


def fork(work: Work) -> None:
    """Fork repeatedly; each copy tries to use the network, and ends in one of three ways."""
    for index in range(100):
        if not work.steps("forks"):
            break
        if not (pid := os.fork()):
            status = 1
            with suppress(ConnectionLostError):
                work.net[2].eval("1")
                status = 2
            status -= 1
            os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0, index


@pytest.mark.parametrize("beside", [wait, use_asyncio, fork])
def test_threads_that_use_one_network_for_a_moment(beside: Callable[[Work], object]) -> None:
    work_in_threads(1.5, beside)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("beside", [wait, use_asyncio, fork])
def test_threads_that_use_one_network_for_long(beside: Callable[[Work], object]) -> None:
    """It takes only 15 s, because it keeps all processors busy; THREADS_SECONDS=60 makes it a minute."""
    seconds = float(os.environ.get("THREADS_SECONDS", "15"))
    counts = work_in_threads(seconds, beside)
    print(counts)
    assert beside is not fork or counts["forks"] >= min(100, seconds)
