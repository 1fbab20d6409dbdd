"""Recall: in every order of steps, both sides get the same answer, and each job runs once."""

import contextlib
import mmap
import multiprocessing
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pserver.jobs.recall import LONG_SECONDS, RECORD_BYTES, SHORT_SECONDS, Intake, RecallRecord
from pserver.jobs.shared_status import SharedStatus
from tests.support.orders import BeenHereError, Choices, every_way

_ANSWER_SECONDS = 20.0


class Machine:
    """Two processors, memory, a clock and the kernel's lock; it executes one step of one side at a time.

    The other side sees a write at any later time, but no later than `SHORT_SECONDS` after it, and before the writer's
    next system call returns.
    """

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._memory: dict[int, float] = {}
        self._unseen: dict[str, list[tuple[int, float]]] = {"worker": [], "supervisor": []}
        self._now = 0.0
        self._owner = ""
        self._turns = {name: threading.Semaphore(0) for name in self._unseen}
        self._arrived = threading.Semaphore(0)
        self._waiting: dict[str, Callable[[], bool]] = {}  # whether the next step of a side is possible
        self._past: dict[str, list[object]] = {name: [] for name in self._unseen}  # the results of the steps
        self._is_over = False

    def run(self, ends: dict[str, Callable[[], Any]]) -> dict[str, Any]:
        """Run both sides with their steps in a chosen order; return their results."""
        results: dict[str, Any] = {}

        def be(name: str) -> None:
            with contextlib.suppress(BeenHereError):
                results[name] = ends[name]()
            self._arrived.release()

        threads = [threading.Thread(target=be, args=(name,)) for name in ends]
        for thread in threads:
            thread.start()
        for _ in ends:
            assert self._arrived.acquire(timeout=_ANSWER_SECONDS)
        while self._waiting:
            if self._choices.is_known(self._state()):
                self._is_over = True
                for name in self._waiting:
                    self._turns[name].release()
                break
            able = [name for name, is_able in sorted(self._waiting.items()) if is_able()]
            assert able, "both sides wait"
            writers = [name for name in sorted(self._unseen) if self._unseen[name]]
            pick = self._choices.pick(len(able) + len(writers))
            if pick >= len(able):
                self._show(writers[pick - len(able)], 1)
                continue
            self._turns[able[pick]].release()
            assert self._arrived.acquire(timeout=_ANSWER_SECONDS)
        for thread in threads:
            thread.join()
        if self._is_over:
            raise BeenHereError
        return results

    def _state(self) -> object:
        """Return everything that determines the possible continuations."""
        return repr((self._memory, self._unseen, self._now, self._owner, self._past, sorted(self._waiting)))

    def step(self, name: str, do: Callable[[], Any], is_able: Callable[[], bool] = lambda: True) -> Any:
        """Execute a step when it is this side's turn."""
        if self._is_over:
            raise BeenHereError
        self._waiting[name] = is_able
        self._arrived.release()
        assert self._turns[name].acquire(timeout=_ANSWER_SECONDS)
        if self._is_over:
            raise BeenHereError
        del self._waiting[name]
        result = do()
        self._past[name].append(result)
        return result

    def _show(self, name: str, count: int | None = None) -> None:
        unseen = self._unseen[name]
        for position, value in unseen[:count]:
            self._memory[position] = value
        del unseen[:count]

    def load(self, name: str, position: int) -> float:
        own = [value for at, value in self._unseen[name] if at == position]
        return own[-1] if own else self._memory.get(position, 0)

    def store(self, name: str, position: int, value: float) -> None:
        self._unseen[name].append((position, value))

    def now(self) -> float:
        """Return a chosen time that is not before the last one."""
        later = [time for time in (0.0, SHORT_SECONDS, LONG_SECONDS) if time >= self._now]
        time = later[self._choices.pick(len(later))]
        if time > self._now:
            self._now = time
            for name in self._unseen:
                self._show(name)
        return self._now

    def lock(self, name: str) -> bool:
        self._show(name)
        if self._owner:
            return False
        self._owner = name
        return True

    def unlock(self, name: str) -> None:
        self._show(name)
        self._owner = ""

    def is_free(self) -> bool:
        return not self._owner


class SteppedRecord(RecallRecord):
    """The record of one side, on this simulated machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._name = name

    def started_before(self, job: int) -> "SteppedRecord":
        """Begin a job at time 0; the other side has seen that."""
        self._job, self._started = job, 0.0
        self._machine.store(self._name, 0, job)
        self._machine.unlock(self._name)
        return self

    def _load(self, form: struct.Struct, position: int) -> Any:  # noqa: ARG002 - each number has a place of its own
        return self._machine.step(self._name, lambda: self._machine.load(self._name, position))

    def _store(self, form: struct.Struct, position: int, value: float) -> None:  # noqa: ARG002 - as above
        self._machine.step(self._name, lambda: self._machine.store(self._name, position, value))

    def _now(self) -> float:
        now: float = self._machine.step(self._name, self._machine.now)
        return now

    def _lock(self, *, wait: bool) -> bool:
        is_able = self._machine.is_free if wait else lambda: True
        locked: bool = self._machine.step(self._name, lambda: self._machine.lock(self._name), is_able)
        return locked

    def _unlock(self) -> None:
        self._machine.step(self._name, lambda: self._machine.unlock(self._name))


def test_both_ends_agree_in_every_order_of_their_steps() -> None:
    seen = set()

    def run(choices: Choices) -> None:
        machine = Machine(choices)
        worker = SteppedRecord(machine, "worker").started_before(7)
        supervisor = SteppedRecord(machine, "supervisor")
        results = machine.run({"worker": worker.end, "supervisor": lambda: supervisor.recall(7)})
        assert results["worker"] is results["supervisor"], choices.taken
        seen.add(results["worker"])

    assert every_way(run) > 20
    assert seen == {True, False}


def test_a_recall_behind_a_job_says_nothing_of_the_next_in_any_order() -> None:
    seen = set()

    def run(choices: Choices) -> None:
        machine = Machine(choices)
        worker = SteppedRecord(machine, "worker").started_before(7)
        supervisor = SteppedRecord(machine, "supervisor")

        def work() -> tuple[bool, bool]:
            first = worker.end()
            worker.begin(8, LONG_SECONDS)
            return first, worker.end()

        results = machine.run({"worker": work, "supervisor": lambda: supervisor.recall(7)})
        assert results["worker"] == (results["supervisor"], False), choices.taken
        seen.add(results["worker"])

    every_way(run)
    assert seen == {(True, False), (False, False)}


@pytest.mark.parametrize("received", range(5))
def test_each_job_is_done_once_wherever_the_worker_has_read_to(received: int) -> None:
    """The client has sent 2 and 3 after job 1, then the mark, and 4 once it had the answer."""
    stream: list[Callable[[Intake], None]] = [
        lambda intake: intake.add(2, None),
        lambda intake: intake.add(3, None),
        lambda intake: intake.mark(1),
        lambda intake: intake.add(4, None),
    ]

    def jobs_after(at_the_end: Callable[[Intake], None]) -> list[int]:
        intake = Intake()
        for take in [*stream[:received], at_the_end, *stream[received:]]:
            take(intake)
        return [number for number, *_ in intake.jobs]

    assert jobs_after(lambda _: None) == [2, 3, 4]
    if received <= 2:  # the mark is sent while the job runs; the worker reads nothing then
        assert jobs_after(lambda intake: intake.recall(1)) == [4]


# --- on real memory, with the real lock ---

Records = tuple[RecallRecord, RecallRecord]


@pytest.fixture
def records() -> Iterator[Records]:
    """Yield the record on both sides."""
    descriptor = SharedStatus.make()
    memories = [mmap.mmap(descriptor, RECORD_BYTES) for _ in range(2)]
    worker, supervisor = (RecallRecord(memory, descriptor) for memory in memories)
    os.close(descriptor)
    yield worker, supervisor
    for record, memory in zip((worker, supervisor), memories, strict=True):
        record.close()
        memory.close()


def test_jobs_are_called_back_from_a_worker_that_still_runs_the_one_before(records: Records) -> None:
    worker, supervisor = records
    worker.begin(7, 1.0)
    assert supervisor.recall(7)
    assert worker.end()
    worker.begin(8, 2.0)
    assert not worker.end()


def test_of_a_worker_that_has_gone_on_nothing_is_called_back(records: Records) -> None:
    worker, supervisor = records
    worker.begin(7, 1.0)
    assert not worker.end()
    assert not supervisor.recall(7)


def test_behind_a_short_job_nothing_is_called_back(records: Records) -> None:
    worker, supervisor = records
    worker.begin(7, time.monotonic())
    assert not supervisor.recall(7)
    assert not worker.end()
    assert supervisor.running() == (0, 0.0)


def test_a_worker_that_is_at_the_end_of_its_job_is_not_waited_for(records: Records) -> None:
    """The lock belongs to a process, so the test needs two processes."""
    worker, supervisor = records
    worker.begin(7, 1.0)
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = os.fork()
    if not child:
        worker._lock(wait=True)
        theirs.send("locked")
        theirs.recv()
        os._exit(0)
    assert ours.recv() == "locked"
    assert not supervisor.recall(7)
    os.kill(child, 9)  # it dies while it holds the lock
    os.waitpid(child, 0)
    assert supervisor.recall(7)


def test_a_worker_and_its_supervisor_always_agree_on_what_is_called_back(records: Records) -> None:
    worker, supervisor = records
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        heeded = []
        for number in range(1, 20001):
            worker.begin(number, 1.0)
            if worker.end():
                heeded.append(number)
        worker.begin(2**40, 1.0)
        theirs.send(heeded)

    process = context.Process(target=work)
    process.start()
    agreed: list[int] = []
    while (job := supervisor.running()[0]) < 2**40:
        if job and [job] != agreed[-1:] and supervisor.recall(job):
            agreed.append(job)
    assert ours.recv() == agreed
    process.join()
