"""Commands and jobs in an asyncio event loop."""

import asyncio
import concurrent.futures
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pconnect.loop.asyncio_bridge import future_in_loop
from pconnect.loop.network import Network
from pconnect.session.remote_calls import run
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server

LIMIT = 20.0
DESCRIPTORS = Path("/proc/self/fd")


def test_many_are_waited_for_side_by_side_and_others_run(network: Network) -> None:
    async def main() -> tuple[object, ...]:
        ticks = 0

        async def tick() -> int:
            nonlocal ticks
            for _ in range(20):
                await asyncio.sleep(0.01)
                ticks += 1
            return ticks

        source = "import time\ntime.sleep(0.5)\nsockets.node"
        first = run(source, network[1], wants_value=True)
        both = run(source, network, wants_value=True)
        async with asyncio.timeout(LIMIT):
            return tuple(await asyncio.gather(_wait(both), _wait(first), tick()))

    assert asyncio.run(main()) == ([1, 2], 1, 20)


async def _wait(command: object) -> object:
    return await command  # type: ignore[misc]


def test_one_that_has_ended_does_not_wait(network: Network) -> None:
    command = run("5", network[1], wants_value=True)
    command.result(LIMIT)
    assert asyncio.run(_wait(command)) == 5


def test_an_error_is_raised(network: Network) -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(_wait(run("1 / 0", network[1])))


def test_cancelling_the_task_cancels_the_command(network: Network) -> None:
    command = run("while True: pass", network[1])

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait(command), 0.2)

    asyncio.run(main())
    assert command.exception(LIMIT) is not None
    assert command.cancelled()
    assert run("1", network[1], wants_value=True).result(LIMIT) == 1


def test_no_descriptor_is_left(server: Server) -> None:
    with server.connect(1) as net:
        asyncio.run(_wait(run("1", net[1])))
        before = len(list(DESCRIPTORS.iterdir()))
        for _ in range(10):
            asyncio.run(_wait(run("1", net[1])))
        assert len(list(DESCRIPTORS.iterdir())) == before


def test_jobs_are_waited_for_side_by_side_with_commands(network: ClientNetwork) -> None:
    async def main() -> list[object]:
        jobs = [network.submit(pow, 2, power) for power in range(5)]
        async with asyncio.timeout(LIMIT):
            return await asyncio.gather(
                *map(_wait, jobs), _wait(network[1].eval("5")), asyncio.sleep(0, "other")
            )

    assert asyncio.run(main()) == [1, 2, 4, 8, 16, 5, "other"]


def test_a_job_that_has_ended_and_one_that_failed(network: ClientNetwork) -> None:
    job = network.submit(abs, -3)
    job.result(LIMIT)
    assert asyncio.run(_wait(job)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(_wait(network.submit(divmod, 1, 0)))


def test_cancelling_the_task_cancels_the_job(network: ClientNetwork) -> None:
    job = network.submit(time.sleep, 60)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_wait(job), 0.2)

    asyncio.run(main())
    with pytest.raises(concurrent.futures.CancelledError):
        job.result(LIMIT)
    assert job.cancelled()


def test_cancelling_the_job_does_not_cancel_the_task(network: ClientNetwork) -> None:
    async def main() -> str:
        job = network.submit(time.sleep, 60)
        asyncio.get_running_loop().call_later(0.1, job.cancel)
        try:
            await asyncio.wait_for(_wait(job), LIMIT)
        except concurrent.futures.CancelledError:
            return "an error"
        return "no error"

    assert asyncio.run(main()) == "an error"


def test_several_event_loops_wait_for_one_job(network: ClientNetwork) -> None:
    job = network.submit(lambda: __import__("time").sleep(0.3) or 7)
    with ThreadPoolExecutor(3) as threads:
        waits = [threads.submit(asyncio.run, _wait(job)) for _ in range(3)]
        assert [wait.result(LIMIT) for wait in waits] == [7, 7, 7]
    assert asyncio.run(_wait(job)) == 7


def test_a_future_may_end_after_the_event_loop(caplog: pytest.LogCaptureFixture) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    future.set_running_or_notify_cancel()  # otherwise the end of the task would cancel it

    async def main() -> None:
        task = asyncio.ensure_future(future_in_loop(future))
        await asyncio.sleep(0)
        task.cancel()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
        future.set_result(1)
    assert future.result(0) == 1
    assert caplog.records == []
