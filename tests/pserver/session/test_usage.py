import os
from collections.abc import Callable
from typing import Any

import pytest

from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.engine.command_page import CommandPage, make_memory
from pserver.session import usage
from pserver.session.usage import NodeUsage, Usage


class Workers:
    """The usage of the workers of a node."""

    sums = (0, 0, 0)
    jobs = 0
    bytes = 0

    def usage(self) -> tuple[int, int, int]:
        return self.sums

    def running(self) -> int:
        return self.jobs

    def memory(self) -> int:
        return self.bytes

    def live_facts(self) -> dict[str, Any]:
        return {"load": 1.5}


class Place:
    """A node without processes, and its reports to the daemon."""

    def __init__(self) -> None:
        self.told: list[tuple[list[int], str]] = []
        self.running: list[int] = []
        self.asked: list[object] = []
        self.memory = 0
        self.workers = Workers()
        self.page = self.new_page()
        self.command = command = Connection(1, "client", None)
        fake: Any = self
        self.usage = NodeUsage(fake, command, lambda: self.page, self.workers)

    @staticmethod
    def new_page() -> CommandPage:
        memory = make_memory()
        page = CommandPage(memory)
        os.close(memory)
        return page

    def run(self, commands: int, received: int, sent: int) -> None:
        """Act as an engine."""
        for number in range(commands):
            self.page.begin(number + 1)
            self.page.end()
        self.page.count_bytes(received, sent)

    def tell_usage(self, counts: Usage, how: str, *, running: int = 0, memory: int = 0) -> None:
        self.told.append((list(counts), how))
        self.memory = memory
        self.running.append(running)

    def ask_statistics(self, wanted: object, take: Callable[[object], object]) -> None:
        self.asked.append(wanted)
        take({"time": 1.0})


@pytest.fixture
def place() -> Place:
    return Place()


def test_counts_of_engines_add_up(place: Place) -> None:
    place.run(3, 100, 10)
    assert place.usage.engines() == Usage(3, 0, 100, 10)
    place.usage.engine_ended()
    assert place.usage.engines() == Usage(3, 0, 100, 10)
    place.page.close()
    place.page = place.new_page()
    assert place.usage.engines() == Usage(3, 0, 100, 10)
    place.run(2, 50, 5)
    assert place.usage.engines() == Usage(5, 0, 150, 15)
    place.usage.engine_ended()
    assert place.usage.engines() == Usage(5, 0, 150, 15)


def test_the_daemon_is_told_when_something_has_changed_and_at_the_end(place: Place) -> None:
    place.usage.tend()
    assert place.told == []
    place.run(1, 7, 8)
    place.workers.sums = (5, 10, 20)
    place.usage.tend()
    assert place.told == []  # the next report is not due yet
    place.usage.end("it was closed")
    assert place.told == [([1, 5, 17, 28], "it was closed")]


def test_sums() -> None:
    assert Usage(1, 2, 3, 4).plus(Usage(10, 20, 30, 40), Usage(100, 0, 0, 1)) == Usage(111, 22, 33, 45)


def test_what_runs_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_TELL_SECONDS", 0.0)
    place.page.begin(1)
    place.workers.jobs = 2
    place.usage.tend()
    place.usage.tend()
    place.page.end()
    place.usage.tend()
    assert place.running == [3, 2]


def test_the_memory_is_told_now_and_then(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_TELL_SECONDS", 0.0)
    monkeypatch.setattr(usage, "_MEMORY_SECONDS", 0.0)
    place.workers.bytes = 3 * 2**20 + 5
    place.usage.tend()
    assert place.memory == 3 * 2**20
    place.workers.bytes += 10  # too little to report
    place.usage.tend()
    assert len(place.told) == 1


def test_questions_of_the_client_are_answered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    posted: list[tuple[Kind, int, Any]] = []
    monkeypatch.setattr(place.command, "post", lambda *message: posted.append(message))
    place.usage.answer(Message(Kind.QUERY, 1, None))
    place.usage.answer(Message(Kind.STATISTICS, 2, {"brief": True}))
    assert place.asked == [{"brief": True}]
    assert posted == [(Kind.FACTS, 1, {"load": 1.5}), (Kind.STATISTICS, 2, {"time": 1.0})]
