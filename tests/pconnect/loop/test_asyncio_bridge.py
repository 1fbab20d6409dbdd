"""Commands in an event loop."""

import asyncio
from pathlib import Path

import pytest

from pconnect.loop.network import Network
from pconnect.session.remote_calls import run
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


def test_who_cancels_the_task_cancels_the_command(network: Network) -> None:
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
