"""The loop that polls the source, and the watching browsers."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from pserver.page import watching as module
from pserver.page.documents import Report
from pserver.page.watching import TooManyError, Watching
from srp_tools.errors import ConfigurationError
from tests.support.small_documents import TestSource, document
from tests.support.waiting import DEADLINE


def make(source: TestSource) -> Watching:
    return Watching(source, interval=0.01)


async def next_event(stream: AsyncGenerator[bytes]) -> tuple[str, dict[str, Any]]:
    told = await asyncio.wait_for(anext(stream), DEADLINE)
    name, data = told.decode().split("\n", 1)
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_a_snapshot_and_then_changes() -> None:
    async def watch() -> None:
        source = TestSource(Report("alpha", document()))
        stream = make(source).stream()
        name, data = await next_event(stream)
        assert (
            name == "snapshot"
            and data["servers"]["alpha"]["row"]["jobs_done"] == 7
            and data["can_stop"] is True
        )
        source.given = [Report("alpha", None, "gone")]
        while not data.get("servers", {}).get("alpha", {}).get("row", {}).get("error"):
            name, data = await next_event(stream)
        assert name == "changes"
        await stream.aclose()

    asyncio.run(watch())


def test_all_who_watch_cost_one_question() -> None:
    async def watch() -> None:
        source = TestSource(Report("alpha", document()))
        watching = make(source)
        streams = [watching.stream() for _ in range(5)]
        events = await asyncio.gather(*map(next_event, streams))
        assert {name for name, _ in events} == {"snapshot"}
        for stream in streams:
            await next_event(stream)
        assert len(source.asked) <= 4
        for stream in streams:
            await stream.aclose()
        # Without a watching browser, the source is not polled.
        await asyncio.sleep(0.05)
        before = len(source.asked)
        await asyncio.sleep(0.1)
        assert len(source.asked) == before

    asyncio.run(watch())


def test_who_is_slow_gets_a_snapshot_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_QUEUED", 2)

    async def watch() -> None:
        source = TestSource(Report("alpha", document()))
        watching = make(source)
        stream = watching.stream()
        await next_event(stream)
        before = len(source.asked)
        totals = {**document()["totals"], "jobs_done": 99}
        source.given = [Report("alpha", document(totals=totals))]
        while len(source.asked) < before + 10:
            await asyncio.sleep(0.01)
        names = []
        while "snapshot" not in names:
            name, data = await next_event(stream)
            names.append(name)
        assert data["servers"]["alpha"]["row"]["jobs_done"] == 99 and len(names) <= 3
        await stream.aclose()

    asyncio.run(watch())


def test_trouble_is_told_and_passes() -> None:
    async def watch() -> None:
        source = TestSource(Report("alpha", document()))
        source.error = ConfigurationError("no server answers")
        stream = make(source).stream()
        name, data = await next_event(stream)
        assert (name, data) == ("trouble", {"error": "no server answers"})
        source.error = None
        while name != "snapshot":
            name, _ = await next_event(stream)
        await stream.aclose()

    asyncio.run(watch())


def test_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WATCHERS", 1)

    async def watch() -> None:
        watching = make(TestSource(Report("alpha", document())))
        first, second = watching.stream(), watching.stream()
        await next_event(first)
        with pytest.raises(TooManyError):
            await anext(second)
        await first.aclose()
        third = watching.stream()
        assert (await next_event(third))[0] == "snapshot"
        await third.aclose()

    asyncio.run(watch())


def test_figures_are_of_a_moment_ago_at_most() -> None:
    async def read() -> None:
        source = TestSource(Report("alpha", document()))
        watching = make(source)
        for _ in range(5):
            assert (await watching.reports())[0].key == "alpha"
        assert len(source.asked) == 1
        await watching.reports(is_whole=True)
        assert source.asked[-1] == {}

    asyncio.run(read())
