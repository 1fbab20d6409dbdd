"""Requests of other threads about the nodes that run jobs, handled in the scheduler's thread."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect import ConnectionLostError
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.healing import Healer, _Attempts
from pconnect.scheduler.loop_thread import LoopThread
from pconnect.scheduler.node_changes import NodeChanges
from pconnect.session.node_state import NodeState
from srp_tools.steps import Steps, pause

LIMIT = 20.0


class Owner:
    """The owner of a thread and of jobs; it does nothing."""

    def __init__(self) -> None:
        self.lost: list[tuple[Any, str]] = []

    def begin(self) -> None:
        pass

    def has_work(self) -> bool:
        return False

    def step(self) -> None:
        pass

    def end(self, reason: str) -> None:
        pass

    def lose(self, job: Any, why: str, *, away: bool = False) -> None:  # noqa: ARG002
        self.lost.append((job, why))


class Silent:
    """A session begun for jobs that sends nothing."""

    has_waited = False

    def __init__(self, log: list[Any]) -> None:
        self.command = SimpleNamespace(error=None)
        self.data = SimpleNamespace()
        self.life = SimpleNamespace(state=NodeState.OPEN)
        self._log = log

    def ask_to_close(self, _: float) -> None:
        self._log.append(self)


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def thread(owner: Owner) -> Iterator[LoopThread]:
    thread = LoopThread("test", owner)
    thread.start()
    yield thread
    thread.close("the test is over")


class Loop:
    """The part of a loop that a healer needs to end sessions."""

    def __init__(self) -> None:
        self.discarded: list[Any] = []
        self.discard = self.discarded.append

    def flush(self, _: object) -> None:
        pass


def healer(owner: Any, nodes: dict[int, Any]) -> tuple[Any, Loop]:
    mesh: Any = SimpleNamespace(growth=SimpleNamespace(healing={1: "tried"}))
    loop: Any = Loop()
    return Healer(mesh, nodes, loop, lambda *_: None, owner), loop


def test_sessions_that_do_not_answer_are_ended_side_by_side(owner: Owner, thread: LoopThread) -> None:
    nodes = {number: f"node {number}" for number in range(1, 9)}
    healing, loop = healer(owner, nodes)
    closed: list[Any] = []
    for number in nodes:
        healing._sessions[number] = Silent(closed)
    jobs: Any = ["first", "second"]
    healing._tries[3] = _Attempts(0.0, 0.0, 0.0, held=jobs)
    forgotten: list[Any] = []
    manager: Any = SimpleNamespace(forget_nodes=lambda *given: forgotten.append(given))
    began = time.monotonic()
    NodeChanges(thread, manager, healing).forget(nodes).result(LIMIT)
    assert time.monotonic() - began < 2 * 3.0
    assert len(closed) == 8 and len(loop.discarded) == 16
    assert forgotten == [(nodes, "was removed from the network")]
    why = "node 3 was removed from the network before the job ended"
    assert owner.lost == [("second", why), ("first", why)]
    assert not any(map(healing.has_session, nodes))


def test_an_error_in_the_thread_is_raised_in_the_caller(thread: LoopThread) -> None:
    def ask(*_: object) -> Steps[dict[int, dict[str, Any]]]:
        yield from pause(0.0)
        raise ConnectionLostError("it was closed meanwhile")

    changes = NodeChanges(thread, SimpleNamespace(), SimpleNamespace(ask=ask))  # type: ignore[arg-type]
    with pytest.raises(ConnectionLostError, match="it was closed meanwhile"):
        changes.ask(Kind.QUERY, 1, lambda _: None, LIMIT)


def test_after_the_end_of_the_thread_there_are_no_answers(thread: LoopThread) -> None:
    thread.close("the network was closed")
    healing: Any = SimpleNamespace(ask=lambda *_: iter(()))
    assert NodeChanges(thread, SimpleNamespace(), healing).ask(Kind.QUERY, 1, lambda _: None, 0.0) == {}  # type: ignore[arg-type]


def test_only_healed_sessions_get_time_to_end(thread: LoopThread, owner: Owner) -> None:
    told: list[tuple[str, list[int], bool]] = []
    healing, _ = healer(owner, {1: "node 1", 2: "node 2"})
    healing._sessions[2] = SimpleNamespace(has_waited=True, command=None, data=None)

    def retire(numbers: list[int], deadline: float, *, returns: bool) -> Steps[None]:
        told.append((f"retire {returns}", list(numbers), deadline > time.monotonic() + 1.0))
        yield from pause(0.0)

    def empty(numbers: list[int], _: str, *, away: bool) -> None:
        told.append(("empty", list(numbers), away))

    manager: Any = SimpleNamespace(retire_nodes=retire, empty_nodes=empty)
    NodeChanges(thread, manager, healing).renew([1, 2], 5.0).result(LIMIT)
    assert told == [("retire True", [1, 2], False), ("retire True", [2], True), ("empty", [1, 2], False)]
