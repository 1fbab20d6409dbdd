"""The supervisor's side of jobs: the slots of this session and its workers.

The jobs themselves pass directly between the client and the workers. The messages here, on the job channel, say how
many workers the client wants, which workers are running, and how they ended.
"""

import contextlib
import functools
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pconnect.errors import ConnectionLostError
from pconnect.protocol.frames import JOB_CHANNEL
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message, refuse_nonsense
from pserver.jobs.detached_worker import CONNECTION, UNFIT
from pserver.jobs.job_trace import JobLog
from pserver.orphans.orphan import TAKEN_OVER
from pserver.session.detached_jobs import DetachedJobs, WorkerControl
from pserver.session.job_channel import JobChannel
from pserver.session.recovery import Recovery
from pserver.session.slot_client import Granted, SlotClient, Total, Yield
from pserver.session.worker_process import LOOK_SECONDS, WorkerProcess, start_worker
from pserver.spawner.engine_process import EngineProcess
from pserver.statistics.work_report import WorkReport
from pserver.system.process_marks import has_marked
from pserver.system.processes import resident_bytes
from srp_tools.printable import printable_name

log = logging.getLogger("pserver")


class Workers:
    """The workers of one session, for the client of `channel`, forked by its engine `process`.

    `folder`: the private folder of the session. `kept`: the folder of all job stores of the server. `on_detached`:
    called when the client has left its jobs to the session.
    """

    def __init__(
        self,
        channel: JobChannel,
        process: EngineProcess,
        slot_client: SlotClient,
        folder: str,
        kept: Path,
        *,
        on_detached: Callable[[], object],
    ) -> None:
        event_loop = channel.event_loop
        self._process = process
        self._folder = folder
        self._slot_client = slot_client
        self._channel = channel
        self._workers: dict[int, WorkerProcess] = {}
        self._last_number = JOB_CHANNEL
        self._wanted = 0
        self._exclusive = False
        self._is_ready = False  # whether the engine can fork workers
        self._died = ""  # how the engine ended, until there is a new engine
        control = WorkerControl(
            self._workers,
            event_loop.watch,
            event_loop.unwatch,
            channel.tell,
            self._want,
            slot_client,
            on_detached,
        )
        client = channel.client
        #: The jobs that continue without the client, if it leaves them.
        self.detached_jobs = DetachedJobs(kept, client.network_id, client.node, client.user, control)
        self._recovery = Recovery(kept, client.user, lambda: channel.connection, event_loop.flush)
        self._report = WorkReport(slot_client)
        channel.on_open, channel.on_lost = self._client_came, self._end_jobs
        channel.on_message, channel.on_worker_connection = self._from_client, self._pass_on
        slot_client.leases = lambda: [(worker.lease, worker.pidfd) for worker in self._workers.values()]
        event_loop.watch(slot_client.fileno(), self._read_leases)
        self._hears_of_deaths = False
        self._job_log = JobLog(client.user, client.node, event_loop.watch)

    # --- the engine ---

    def attend_engine(self) -> None:
        """Watch the sockets of a new engine."""
        self._channel.event_loop.watch(self._process.forks.fileno(), self._read_refusal)
        if not self._hears_of_deaths:
            self._channel.event_loop.watch(self._process.spawner.deaths.fileno(), self._read_deaths)
            self._hears_of_deaths = True

    def engine_is_ready(self) -> None:
        """Record that the engine can fork workers."""
        self._is_ready, self._died = True, ""
        self._tell_pool()
        self._ask()

    def engine_is_killed(self) -> None:
        """Give up the workers that the engine has not forked yet."""
        self._is_ready = False
        for worker in [worker for worker in self._workers.values() if not worker.pid]:
            self._forget_not_started(worker)

    def engine_ended(self, how: str) -> None:
        """End the workers of an engine that has ended."""
        self._is_ready, self._died = False, how
        with contextlib.suppress(KeyError):
            self._channel.event_loop.unwatch(self._process.forks.fileno())
        for worker in self._workers.values():
            worker.why_killed = f"the engine died: {how}"
            worker.remedy = f"; to continue: net[{self._channel.client.node}].restart()"
        self._end_workers()
        self.detached_jobs.lose_all(f"the engine died: {how}")
        self._tell_pool()
        self._ask()

    def close(self, reason: str) -> None:
        """End all workers."""
        self._channel.close(reason)
        self.detached_jobs.close(reason)
        self._recovery.close()
        self._report.end(self._workers.values())
        for worker in self._workers.values():
            if worker.pid:
                worker.signal(signal.SIGKILL)
            worker.close()
        self._workers.clear()
        if self._job_log.fileno() >= 0:
            self._channel.event_loop.unwatch(self._job_log.fileno())
        self._job_log.close()

    def _end_workers(self) -> None:
        for worker in list(self._workers.values()):
            if worker.pid:
                worker.signal(signal.SIGKILL)
            else:
                self._forget_not_started(worker)

    # --- slots ---

    def _ask(self) -> None:
        able = self._is_ready and (self._channel.is_open or self.detached_jobs.is_detached)
        self._slot_client.ask(self._wanted if able else 0, exclusive=self._exclusive and able)

    def _want(self, wanted: int) -> None:
        """Ask for a number of workers for a client that has left; they share the server with other sessions."""
        self._wanted, self._exclusive = wanted, False
        self._ask()

    def _read_leases(self) -> None:
        for event in self._slot_client.read():
            match event:
                case Total():
                    self._tell_pool()
                case Granted(lease):
                    self._start(lease)
                case Yield(lease):
                    for worker in [worker for worker in self._workers.values() if worker.lease == lease]:
                        self._yield(worker)

    def _yield(self, worker: WorkerProcess) -> None:
        """Ask the client to give up a worker, or drop the worker if the engine has not forked it yet."""
        if not worker.pid:
            self._forget_not_started(worker)
        elif worker.yields_since is None:
            worker.yields_since = time.monotonic()
            self._channel.tell(Kind.YIELD, worker.number)

    def _start(self, lease: int) -> None:
        """Have the engine fork a worker for a slot."""
        if not self._is_ready or len(self._workers) >= self._wanted:
            self._slot_client.give_back(lease)
            self._ask()
            return
        self._last_number += 1
        try:
            threads = max(1, len(os.sched_getaffinity(0)) // max(1, self._slot_client.total or 1))
            worker = start_worker(
                self._process.forks, self._folder, self._last_number, lease, threads, self._job_log.ends
            )
        except (BrokenPipeError, ConnectionResetError):  # the engine has just ended; the report will follow
            self._slot_client.give_back(lease)
            return
        except OSError as error:
            self._slot_client.give_back(lease)
            place = f" ({error.filename})" if error.filename else ""
            why: Any = f"a worker could not be started: {error.strerror or error}{place}"
            # If the folder of the session is gone, no later attempt can succeed.
            self._refuse(self._last_number, {"never": why} if isinstance(error, FileNotFoundError) else why)
            return
        self._workers[worker.number] = worker
        self._channel.event_loop.watch(worker.pipe.fileno(), lambda: self._read_pipe(worker))

    def _read_refusal(self) -> None:
        """Read the engine's report that it cannot fork a worker: the oldest one that has not started."""
        try:
            text = self._process.forks.recv(1000).decode()
        except OSError:
            text = ""
        not_started = [worker for worker in self._workers.values() if not worker.pid]
        if not text or not not_started:
            with contextlib.suppress(KeyError):
                self._channel.event_loop.unwatch(self._process.forks.fileno())  # the engine is gone
            return
        self._forget_not_started(not_started[0])
        self._refuse(not_started[0].number, text)

    def _refuse(self, number: int, text: str | dict[str, str]) -> None:
        """Tell the client that a worker could not start; the client may ask again."""
        self._wanted = len(self._workers)
        self._ask()
        self._channel.tell(Kind.WORKER, number, text)

    def _forget_not_started(self, worker: WorkerProcess) -> None:
        self._channel.event_loop.unwatch(worker.pipe.fileno())
        del self._workers[worker.number]
        worker.close()
        self._slot_client.give_back(worker.lease)

    # --- the workers ---

    def _read_pipe(self, worker: WorkerProcess) -> None:
        """Read a worker's first and only message."""
        try:
            pid, command = worker.first_word()
            worker.pidfd = os.pidfd_open(pid)
            self._slot_client.bind(worker.lease, worker.pidfd)
        # It ended before it could send its message, the message is not valid, or there are too many open files.
        except (OSError, ValueError, OverflowError):
            if worker.pidfd >= 0:
                worker.signal(signal.SIGKILL)
            self._forget_not_started(worker)
            self._refuse(worker.number, "a worker ended while it was starting")
            return
        self._channel.event_loop.unwatch(worker.pipe.fileno())
        worker.pid, worker.command = pid, command
        with contextlib.suppress(ConnectionLostError):  # then the engine is gone, too, with all its workers
            self._process.spawner.adopt(worker.pid)
        self._channel.tell(Kind.WORKER, worker.number, {"pid": worker.pid, "command": worker.command})
        self.detached_jobs.worker_started(worker)

    def _read_deaths(self) -> None:
        try:
            while (death := self._process.spawner.read_death()) is not None:
                pid, code = death
                for worker in [worker for worker in self._workers.values() if worker.pid == pid]:
                    self._worker_ended(worker, code)
        except ConnectionLostError:
            self.spawner_is_gone()

    def spawner_is_gone(self) -> None:
        """End all workers immediately, because no process is left that would report their ends."""
        if not self._hears_of_deaths:
            return
        self._channel.event_loop.unwatch(self._process.spawner.deaths.fileno())
        self._hears_of_deaths = self._is_ready = False
        for worker in self._workers.values():
            worker.why_killed = worker.why_killed or "the process that starts engines has ended"
        self._end_workers()
        for worker in list(self._workers.values()):
            self._worker_ended(worker, -signal.SIGKILL)

    def _worker_ended(self, worker: WorkerProcess, code: int) -> None:
        del self._workers[worker.number]
        status = worker.page.read()
        report = worker.report(self._process.spawner.describe_exit(code), status)
        if code == UNFIT and not status.job:
            why = printable_name(report["outputs"][1][0].decode(errors="replace").strip())
            log.warning("session %d: replacing worker %d after a job: %s", os.getpid(), worker.pid, why)
        self._job_log.lost(status.job, report["how"], report["seconds"])
        self._report.ended(worker)
        self.detached_jobs.worker_ended(worker, status, report)
        worker.close()
        self._slot_client.give_back(worker.lease)  # the daemon may never have got a descriptor of the process
        self._channel.tell(Kind.ENDED, worker.number, report)

    def runs_programs(self) -> bool:
        """Whether this node has processes besides its engine and its workers."""
        known = [self._process.pid, *(worker.pid for worker in list(self._workers.values()))]
        return has_marked(self._process.spawner.mark, known)

    def live_facts(self) -> dict[str, Any]:
        """Return the facts that a client can query at any time: the load, the engine's memory, and `facts`."""
        load, memory = os.getloadavg()[0], resident_bytes(self._process.pid)
        return {
            "load": load,
            "memory_bytes": memory,
            "jobs": self.facts(),
            "daemon": self._slot_client.has_daemon,
        }

    def facts(self) -> dict[str, Any]:
        """Return the work done so far: of each living worker, and of all earlier ones together."""
        now = time.monotonic()
        living = [worker.facts(now) for worker in self._workers.values()]
        return {"slots": self._slot_client.total, "workers": living, "ended": self._report.past.shown()}

    def usage(self) -> tuple[int, int, int]:
        """Return the number of jobs that the workers have done so far, and of bytes received and sent."""
        past = self._report.past
        jobs, received, sent = self._report.past_jobs, past.bytes_in, past.bytes_out
        for worker in self._workers.values():
            more_received, more_sent = worker.page.traffic()
            jobs, received, sent = (
                jobs + worker.page.read().jobs,
                received + more_received,
                sent + more_sent,
            )
        return jobs, received, sent

    def memory(self) -> int:
        """Return the memory used by the engine and its workers, in bytes; shared memory counts for each of them."""
        pids = [self._process.pid, *(worker.pid for worker in self._workers.values() if worker.pid)]
        return sum(resident_bytes(pid) or 0 for pid in pids)

    def running(self) -> int:
        """Return the number of running jobs."""
        return sum(bool(worker.page.read().job) for worker in self._workers.values())

    def tend(self) -> float:
        """Check the workers and report to the client; return the seconds until the next call."""
        seconds = min(self.detached_jobs.tend(), self._recovery.tend(), self._slot_client.tend())
        now = time.monotonic()
        seconds = min(seconds, self._report.tend(self._workers.values(), now))
        if not self._workers:
            return seconds
        for worker in self._workers.values():
            if worker.pid and (running := worker.look(now, self._process.spawner.limits.job_time)):
                self._channel.tell(Kind.RUNNING, worker.number, running)
            if self._channel.has_room:
                for part in worker.printed():
                    self._channel.tell(Kind.PRINTED, worker.number, part)
        return min(seconds, LOOK_SECONDS)

    # --- the client ---

    def _client_came(self) -> None:
        self._tell_pool()
        self._ask()

    def client_vanished(self, why: str) -> None:
        """End the jobs of a client that is gone, and forget its unfinished hand-over; another client may come.

        If another client has taken over the session, the old one is notified, so it does not try to come back.
        """
        self.detached_jobs.client_vanished()
        self._channel.leave(why if why == TAKEN_OVER else "")

    def _pass_on(self, number: int, descriptor: int) -> None:
        """Pass the client's connection to a worker on to it."""
        worker = self._workers.get(number)
        if worker is not None and worker.pid:
            with contextlib.suppress(OSError):  # it has just ended, and the client will be notified
                socket.send_fds(worker.pipe, [CONNECTION], [descriptor])
        os.close(descriptor)

    def _end_jobs(self) -> None:
        """End all workers because the client is gone, unless it has detached: nobody could take their results."""
        if self.detached_jobs.is_detached:
            return
        self._wanted = 0
        self._end_workers()
        self._ask()

    @refuse_nonsense
    def _from_client(self, message: Message) -> None:
        worker = self._workers.get(message.tag)
        match message.kind:
            case Kind.RENEW:
                self._channel.on_renewal(message.value)
            case Kind.WANT:
                self._wanted, self._exclusive = message.tag, bool(message.value)
                self._ask()
            case Kind.STOP if message.tag:
                if worker is not None:
                    worker.cancel(*message.value)
            case Kind.RECALL if worker is not None and worker.pid:
                job = message.value
                runs_still = worker.page.recall(job)
                if runs_still:
                    self._channel.tell(Kind.ENDED, 0, worker.early_results(job))
                self._channel.tell(Kind.RECALL, worker.number, [job, runs_still])
            case Kind.STATISTICS:
                tell = functools.partial(self._channel.tell, Kind.STATISTICS, message.tag)
                self._slot_client.ask_statistics(message.value, tell)
            case Kind.KEEP | Kind.LIMIT | Kind.DETACH | Kind.LEAVE:
                self.detached_jobs.hear(message)
            case Kind.RECOVER | Kind.TAKE | Kind.STOP:
                self._recovery.hear(message)

    def _tell_pool(self) -> None:
        slots = self._slot_client.total
        if slots is not None:
            pool = {"slots": slots, "ready": self._is_ready, "died": self._died}
            self._channel.tell(Kind.POOL, 0, pool)
