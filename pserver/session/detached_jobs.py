"""The supervisor's side of a detached network: jobs continue without their client, and the server keeps the results.

The client hands over its jobs in three steps, see doc/states/hand_over.md. Between the steps it may still change its
mind, or die; then all jobs end with it. First, it sends a copy of each unfinished job (KEEP), which goes into the job
store, and how many jobs of some executors may run at the same time (LIMIT). Then (DETACH), the supervisor has the
workers write results to the store, too. A worker may just be sending a result to the client. It marks this in its
shared status before it checks in the status where to send results. The supervisor looks at the mark afterwards, so it
knows when the workers have sent their last result. The client reads the results that are under way, and reports which
jobs have ended (LEAVE). All other jobs now belong to the session.

A worker that writes to the store drops the jobs that it has not started and finishes the running job. Then it asks the
supervisor for jobs, one at a time. Until it does, no other worker gets the jobs that the client had sent to it.
"""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pconnect.commands.captured_output import with_last_words
from pconnect.errors import ConfigurationError
from pconnect.jobs.job import LOST
from pconnect.protocol.frames import NO_LIMIT
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, encode_message
from pserver.jobs.job_limits import JobLimits
from pserver.jobs.job_store import JobStore, split_results
from pserver.jobs.shared_status import Status
from pserver.jobs.unwritten_results import UnwrittenResults
from pserver.session.lifecycle import HandOverEvent, HandOverLifecycle, HandOverState
from pserver.session.slot_client import SlotClient
from pserver.session.worker_process import WorkerProcess
from srp_tools.steps import deadline_after, remaining

log = logging.getLogger("pserver")

_LOOK = 0.02  # seconds between two checks whether workers are still sending
_TEND = 0.2
# For writing the remaining results when the session ends; a server that stops waits 3 s for its sessions.
_LAST_SECONDS = 1.0
_WORD_BYTES = 100


@dataclass
class _Job:
    """A job without a result."""

    name: str
    retries: int
    isolate: bool
    after: int  # the command that its worker's engine must have run


@dataclass(frozen=True)
class WorkerControl:
    """The parts of `pserver.session.worker_manager.Workers` that detached jobs need."""

    workers: dict[int, WorkerProcess]  #: the living workers, by number
    #: Methods of the event loop.
    watch: Callable[[int, Callable[[], object]], None]
    unwatch: Callable[[int], None]
    tell: Callable[[Kind, int, Any], None]  #: sends a message to the client
    want: Callable[[int], None]  #: sets the wanted number of workers
    slot_client: SlotClient  #: the leases of slots
    on_detached: Callable[[], object]  #: called when the client has left


class DetachedJobs:
    """The jobs of one session that continue without their client.

    `kept`: the folder of all job stores of the server.
    """

    def __init__(self, kept: Path, network_id: bytes, node: int, user: str, control: WorkerControl) -> None:
        self._kept = kept
        self._whose = network_id, node, user
        self._control = control
        self._store: JobStore | None = None
        self._unwritten: UnwrittenResults | None = None  # set whenever the store is
        self._jobs: dict[int, _Job] = {}
        self._queue: deque[int] = deque()
        self._sent: dict[int, int] = {}  # the worker to which the client has sent a job
        self._running: dict[int, int] = {}  # the job by worker
        self._limits = JobLimits()
        self._idle: set[int] = set()  # workers that wait for a job from us
        self._told: set[int] = set()  # workers that have orders to use the job store
        self._hand_over = HandOverLifecycle()

    @property
    def is_detached(self) -> bool:
        """Whether the client has left."""
        return self._hand_over.state is HandOverState.DETACHED

    @property
    def is_done(self) -> bool:
        """Whether the client has left, all jobs have ended, and all results are written."""
        return self.is_detached and not self._jobs and not self._unwritten

    # --- messages from the client ---

    def hear(self, message: Message) -> None:
        """Handle KEEP, LIMIT, DETACH and LEAVE."""
        try:
            match message.kind:
                case Kind.KEEP if message.tag == 0:
                    self._begin(message.value)
                case Kind.KEEP:
                    self._add(message.tag, *message.value)
                case Kind.LIMIT:
                    self._advance(HandOverEvent.COPY)
                    self._limits.add(message.tag, *message.value)
                case Kind.DETACH:
                    self._quiesce()
                    return
                case Kind.LEAVE:
                    self._leave(message.value)
        except (OSError, ConfigurationError, TypeError, ValueError, LookupError) as error:
            log.warning("session %d: cannot keep jobs: %r", os.getpid(), error)
            self._control.tell(message.kind, message.tag, f"the server cannot keep jobs: {error}")
            return
        self._control.tell(message.kind, message.tag, None)

    def _advance(self, event: HandOverEvent) -> None:
        if not self._hand_over.allows(event):
            raise ConfigurationError("the client sent a message out of order")
        self._hand_over.handle(event)

    def _begin(self, digest: bytes | None) -> None:
        """Make the job store; without a digest, only forget the old one."""
        self._advance(HandOverEvent.FORGET)
        self._forget()
        if digest is not None:
            self._store = JobStore.make(self._kept, *self._whose, digest)
            self._unwritten = UnwrittenResults(self._store)
            self._advance(HandOverEvent.BEGIN)

    def client_vanished(self) -> None:
        """Forget an unfinished hand-over."""
        if not self.is_detached:
            self._begin(None)

    def _forget(self) -> None:
        self._jobs.clear()
        self._sent.clear()
        self._limits.clear()
        for number in self._told:  # workers that left the client for the store cannot go back
            self._say(self._control.workers[number], "end")
        self._idle.clear()
        if self._store is not None:
            self._store.remove()
            self._store = self._unwritten = None

    def _add(self, number: int, facts: dict[str, Any], parts: dict[str, bytes], job: bytes) -> None:
        self._advance(HandOverEvent.COPY)
        assert self._store is not None  # noqa: S101 - made by `_begin`
        for name, part in parts.items():
            self._store.add_part(name, part)
        self._store.add_job(number, facts, job)
        self._jobs[number] = _Job(facts["name"], facts["retries"], facts["isolate"], facts["after"])
        if facts["worker"]:
            self._sent[number] = facts["worker"]

    def _quiesce(self) -> None:
        self._advance(HandOverEvent.QUIESCE)
        for worker in self._control.workers.values():
            self.worker_started(worker)
        self.tend()

    def _leave(self, ended: list[int]) -> None:
        self._advance(HandOverEvent.LEAVE)
        assert self._store is not None  # noqa: S101 - made by `_begin`
        for number in ended:
            self._jobs.pop(number, None)
            self._store.take(number)
        self._control.slot_client.tell_detached()
        self._control.on_detached()
        log.info("session %d: detached, %d jobs continue without their client", os.getpid(), len(self._jobs))
        for number in list(self._jobs):
            if self._sent.get(number) not in self._control.workers or self._sent[number] in self._idle:
                self._take_up(number)
        for worker in list(self._idle):
            self._feed(self._control.workers[worker])
        self.tend()

    def _take_up(self, number: int) -> None:
        """Put a job into the queue, unless it has ended."""
        assert self._store is not None  # noqa: S101 - there are jobs
        self._sent.pop(number, None)
        if number not in self._jobs:
            return
        if self._store.has_result(number):
            del self._jobs[number]
        else:
            self._queue.append(number)

    # --- workers ---

    def worker_started(self, worker: WorkerProcess) -> None:
        """Have a worker use the job store, if the hand-over has come that far."""
        if self._hand_over.uses_store and worker.pid and worker.number not in self._told:
            assert self._store is not None  # noqa: S101 - the client has made it first
            self._told.add(worker.number)
            worker.page.detach()  # first, because the worker looks there when a message arrives in the pipe
            self._say(worker, f"spool {self._store.folder}")
            self._control.watch(worker.pipe.fileno(), lambda: self._read(worker))

    def _say(self, worker: WorkerProcess, words: str) -> None:
        with contextlib.suppress(ConnectionError):  # it has ended, and `worker_ended` follows
            worker.pipe.send(words.encode())

    def _read(self, worker: WorkerProcess) -> None:
        try:
            words = worker.pipe.recv(_WORD_BYTES).split()
        except ConnectionError:
            words = []
        if not words:
            self._control.unwatch(worker.pipe.fileno())
            self._told.discard(worker.number)  # `worker_ended` must not unwatch it again
            return
        if words[0] == b"done":
            self._jobs.pop(int(words[1]), None)
            self._running.pop(worker.number, None)
        if self._store is None:  # the client has changed its mind
            self._say(worker, "end")
            return
        self._idle.add(worker.number)
        if self.is_detached:
            self._take_up_sent(worker.number)
            self._feed(worker)

    def _take_up_sent(self, worker: int) -> None:
        for number in [number for number, sent_to in self._sent.items() if sent_to == worker]:
            self._take_up(number)

    def _feed(self, worker: WorkerProcess) -> None:
        """Give a job to a waiting worker, or end the worker if there is none."""
        self._idle.discard(worker.number)
        job = None if worker.yields_since is not None else self._choose(worker)
        if job is None:
            self._say(worker, "end")
        else:
            self._queue.remove(job)
            self._running[worker.number] = job
            self._say(worker, f"run {job}")

    def _choose(self, worker: WorkerProcess) -> int | None:
        if self._unwritten:  # do not produce more results while results cannot be written
            return None
        is_fresh = not worker.page.read().jobs
        room = self._limits.room(self._holders())
        for number in self._queue:
            job = self._jobs[number]
            is_able = worker.command >= job.after and (is_fresh or not job.isolate) and not worker.is_spent
            if is_able and self._limits.admits(number, room):
                worker.is_spent = job.isolate
                return number
        return None

    def _holders(self) -> Iterator[tuple[int, int]]:
        """Yield pairs of a worker and an unfinished job that it runs, or has from the client."""
        yield from self._running.items()
        yield from ((worker, number) for number, worker in self._sent.items() if number in self._jobs)

    def worker_ended(self, worker: WorkerProcess, status: Status, told: dict[str, Any]) -> None:
        """Take over the jobs of a worker that has ended; `told`: the report of its end for the client."""
        if worker.number in self._told:
            self._told.discard(worker.number)
            with contextlib.suppress(KeyError):
                self._control.unwatch(worker.pipe.fileno())
        self._idle.discard(worker.number)
        given = self._running.pop(worker.number, 0)
        if not self.is_detached:
            return  # the client gets the report, and decides about its jobs
        assert self._store is not None  # noqa: S101 - it is detached
        for number, result in split_results(told["results"]):
            self._end(number, result)
        for number in {given, status.job} & self._jobs.keys():
            if self._store.has_result(number):
                del self._jobs[number]
            else:
                self._lose(number, told)
        self._take_up_sent(worker.number)
        self.tend()

    def _lose(self, number: int, told: dict[str, Any]) -> None:
        """Retry a job whose worker has died, or record that the job is lost."""
        job = self._jobs[number]
        self._sent.pop(number, None)
        if job.retries > 0:
            job.retries -= 1
            self._queue.appendleft(number)
            return
        (out, out_before), (err, err_before) = told["outputs"]
        text = with_last_words(f"its worker died: {told['how']}", (out + err).decode("utf-8", "replace"))
        output = [out, out_before, err, err_before]
        self._end(number, lost_result(number, text, told["seconds"], output))

    def _end(self, number: int, result: list[bytes | memoryview]) -> None:
        assert self._unwritten is not None  # noqa: S101 - there are jobs
        if self._jobs.pop(number, None) is None:
            return
        with contextlib.suppress(ValueError):
            self._queue.remove(number)
        self._unwritten.keep(number, result)

    # --- time ---

    def tend(self) -> float:
        """Do the work that is due; return the seconds until the next call."""
        try:
            return self._tend()
        except OSError as error:  # a full disk or descriptor table may recover; meanwhile, the jobs continue
            log.error("cannot read the folder of detached jobs: %s", error)
            return _TEND

    def _tend(self) -> float:
        if self._hand_over.state is HandOverState.QUIESCING:
            return self._look_for_silence()
        if not self.is_detached:
            return float("inf")
        assert self._unwritten is not None  # noqa: S101 - the client has left
        self._unwritten.write()
        if self._unwritten.is_hopeless:
            self._unwritten.give_up()
            self._jobs.clear()
            self._queue.clear()
            return float("inf")
        self._heed_stops()
        workers = self._control.workers
        startable = self._limits.count(self._queue, self._limits.room(self._holders()))
        self._control.want(len(workers) + (0 if self._unwritten else startable))
        if self._control.slot_client.is_gone and not workers:
            self.lose_all("the server is gone")
        return _TEND

    def _heed_stops(self) -> None:
        """End the jobs that a client has recovered and cancelled."""
        assert self._store is not None  # noqa: S101 - the client has left
        for number, grace in self._store.stops().items():
            job = self._jobs.get(number)
            if job is None:
                self._store.forget_stop(number)
            elif number in self._queue:
                self._end(number, lost_result(number, "it was cancelled before it began"))
            else:
                job.retries = 0
                # If it is not running yet, this cancels it as soon as it starts.
                for worker in self._control.workers.values():
                    worker.cancel(number, grace)

    def _look_for_silence(self) -> float:
        """Notify the client once no worker is sending to it."""
        for number in self._told - self._idle:
            if self._control.workers[number].page.is_sending():
                return _LOOK
        self._advance(HandOverEvent.SILENT)
        self._control.tell(Kind.DETACH, 0, None)
        return float("inf")

    def lose_all(self, why: str) -> None:
        """Give up all jobs, because they can no longer run."""
        if self.is_detached:
            for number in list(self._jobs):
                if self._store is not None and self._store.has_result(number):
                    del self._jobs[number]
                else:
                    self._end(number, lost_result(number, why))

    def close(self, reason: str) -> None:
        """Close the store: jobs without a result are lost for this reason, or forgotten if the client has not left."""
        if self._store is not None and self._unwritten is not None and self.is_detached:
            self._write_last(self._unwritten)
            self._store.end("; ".join(why for why in (reason, self._unwritten.why) if why))
        else:
            self._forget()

    def _write_last(self, unwritten: UnwrittenResults) -> None:
        """Write as many results as possible in the remaining time."""
        workers = [worker for worker in self._control.workers.values() if worker.pid]
        for worker in workers:  # unsent results of jobs before the running one
            for number, result in split_results(bytes(worker.page.results(worker.page.read().unsent))):
                self._end(number, result)
        deadline = deadline_after(_LAST_SECONDS)
        while remaining(deadline) and (unwritten or any(worker.page.is_sending() for worker in workers)):
            time.sleep(_LOOK)
            unwritten.write()


def lost_result(
    number: int, text: str, seconds: float = 0.0, output: list[Any] | None = None
) -> list[bytes | memoryview]:
    """Return the RESULT message of a lost job; `output`: the same as for other jobs."""
    result = [LOST, text, time.time() - seconds, seconds, *([output] if output else [])]
    return encode_message(Kind.RESULT, number, result, NO_LIMIT)
