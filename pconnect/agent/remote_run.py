"""One program on a server, with the streams and signals of one call of `prun`."""

import asyncio
import concurrent.futures
import contextlib
import errno
import functools
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pconnect.agent.callers import Caller
from pconnect.agent.descriptor_streams import DescriptorInput, DescriptorOutput, is_writable
from pconnect.agent.requests import Request
from pconnect.errors import JobLostError, ParallelError
from pconnect.programs.program import ProgramJob
from pconnect.programs.streams import STDERR, STDIN, STDOUT
from pconnect.prun.fast_client import BEGUN, OUR_FAILURE, RAW, REPEATABLE, STOP
from pconnect.prun.hints import hint
from pconnect.prun.settings import Settings

TIME_LIMIT, NOT_FOUND = 124, 127
# So long what a program has written is offered to its reader after a signal that ends it.
_UNREAD_SECONDS = 1.0
_UNREAD_LOOKS = 5
_NOTICE_SECONDS = 3.0  # a program that waits longer says for what
#: Signals that end a call for which no program runs.
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


@dataclass(frozen=True)
class Ended:
    """How a call ends: its exit status, and what standard error says besides.

    `is_ours`: the program has not run to its end. `may_repeat`: it is lost with its node, and another try does no harm.
    `lacks_folder`: its folder is not there.
    """

    status: int
    text: str = ""
    is_ours: bool = False
    may_repeat: bool = False
    lacks_folder: bool = False


class _Nobody:
    """Takes the place of an output that the caller has closed: a program that writes finds that nobody reads it."""

    def __init__(self, grant: Callable[[int], None]) -> None:
        self._grant = grant

    def take(self, data: bytes) -> None:
        if data:
            self._grant(0)

    def fail(self, _error: BaseException | None) -> None:
        pass

    def begin_again(self) -> None:
        pass


class RemoteRun:
    """One program, from its start to its end.

    `is_begun`: it was sent to a node. `has_waited`: it was not, for all of the queue limit, and `why`.
    """

    def __init__(
        self, caller: Caller, request: Request, settings: Settings, job: ProgramJob, *, is_terminal: bool
    ) -> None:
        self.is_begun = self.has_waited = False
        self.why = ""
        self._caller = caller
        self._settings = settings
        self._job = job
        self._loop = asyncio.get_running_loop()
        self._is_terminal = is_terminal
        self._is_watched = request.terminals[STDERR]  # somebody may wonder why nothing happens
        self._is_touched = False  # something of its streams has passed
        self._ended_by = 0  # the last signal that ends most programs
        self._outputs: list[DescriptorOutput] = []
        self._input: DescriptorInput | None = None
        self._open = 0
        self._over = self._loop.create_future()  # nothing more will be written
        self._connect(request)

    def _connect(self, request: Request) -> None:
        """Connect the streams of the job with the caller's descriptors."""
        job, ends = self._job, self._caller.ends
        streams = (STDOUT,) if self._is_terminal or is_one_output(request, ends) else (STDOUT, STDERR)
        has_input = self._settings.stdin and not request.closed[STDIN]
        with contextlib.ExitStack() as stack:
            copies = {}
            for stream in (*streams, *([STDIN] if has_input else [])):
                copies[stream] = os.dup(ends[stream])
                stack.callback(os.close, copies[stream])
            stack.pop_all()  # there were enough descriptors
        for stream in streams:
            grant = functools.partial(job.grant, stream)
            if request.closed[stream] or not is_writable(ends[stream]):
                os.close(copies[stream])
                job.outputs_by_stream[stream] = _Nobody(grant)
                continue
            output = DescriptorOutput(self._loop, copies[stream], grant, self._end_output, self._touch)
            job.outputs_by_stream[stream] = output
            self._outputs.append(output)
        self._open = len(self._outputs)
        if not self._open:
            self._over.set_result(None)
        if has_input:
            job.input = self._input = DescriptorInput(self._loop, copies[STDIN], job.send, self._touch)

    @property
    def host(self) -> str:
        """Where it has run."""
        return self._job.host or "no server"

    async def run(self) -> Ended:
        """Run it and wait for its end. When this is cancelled, the program is ended, and not waited for."""
        job = self._job
        ended = self._loop.create_future()
        job.add_done_callback(lambda _: self._loop.call_soon_threadsafe(_settle, ended))
        job.on_begin = self._begin
        before, self._caller.on_signal = self._caller.on_signal, self._pass_signal
        job.start()
        limit = self._settings.queue_limit
        timer = None if limit is None else self._loop.call_later(limit, self._expire)
        notice = self._loop.call_later(_NOTICE_SECONDS, self._say_that_it_waits) if self._is_watched else None
        try:
            await ended
            await self._drain()
        except asyncio.CancelledError:
            job.cancel()
            for output in self._outputs:
                output.abandon()
            raise
        finally:
            for each in (timer, notice):
                if each is not None:
                    each.cancel()
            self._caller.on_signal = before
            if self._input is not None:
                self._input.close()
        return self._how()

    def _begin(self) -> None:
        """Tell the caller: from now on the program may have done something. A thread of the jobs calls this."""
        self.is_begun = True
        if not self._settings.repeatable:
            self._caller.say(BEGUN)
        else:
            self._caller.say(REPEATABLE)
        if self._is_terminal:
            self._caller.say(RAW)

    def _say_that_it_waits(self) -> None:
        if not self.is_begun:
            self._caller.note(f"{self._job.words[0]} waits for a slot: {self._job.why}")

    def _expire(self) -> None:
        if not self.is_begun:
            self.why = self._job.why
            self.has_waited = self._job.cancel() and not self.is_begun

    def _touch(self) -> None:
        if not self._is_touched:
            self._is_touched = True
            self._caller.say(BEGUN)

    def _end_output(self) -> None:
        self._loop.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self._open -= 1
        if not self._open:
            _settle(self._over)

    def _pass_signal(self, number: int) -> None:
        if self.is_begun:
            size: tuple[int, ...] = ()
            if number == signal.SIGWINCH and self._is_terminal:
                size = terminal_size(self._caller.ends[STDIN], self._caller.ends[STDOUT])
            self._job.signal(number, *size)
        elif number in ENDING:
            self._job.cancel()
        if number in ENDING:
            self._ended_by = number
            if number != signal.SIGHUP:  # which many servers take as something else
                # It would not end while it waits for a reader.
                self._loop.call_later(_UNREAD_SECONDS, self._abandon_unread, self._written(), _UNREAD_LOOKS)
        if number == signal.SIGTSTP:
            self._caller.say(STOP)

    async def _drain(self) -> None:
        """Wait until all is written; after a signal, not for readers who take nothing for a while."""
        while not self._over.done():
            counts = self._written()
            await asyncio.wait([self._over], timeout=_UNREAD_SECONDS)
            if self._ended_by:
                self._abandon_unread(counts)

    def _written(self) -> list[int]:
        return [output.written for output in self._outputs]

    def _abandon_unread(self, counts: list[int], looks: int = 1) -> None:
        """Give up readers who have taken nothing since they had taken so much; look so often, while they take more."""
        for output, count in zip(self._outputs, counts, strict=True):
            if output.is_blocked and output.written == count:
                output.abandon()
        if looks > 1 and not self._over.done():
            self._loop.call_later(_UNREAD_SECONDS, self._abandon_unread, self._written(), looks - 1)

    def _how(self) -> Ended:
        """Return how it has ended."""
        if self._ended_by and not self.is_begun:
            return Ended(128 + self._ended_by)
        for stream, output in zip(("standard output", "standard error"), self._outputs, strict=False):
            if output.problem is not None:
                why = output.problem.strerror
                return Ended(OUR_FAILURE, f"cannot write to {stream}: {why}", is_ours=True)
        try:
            return self._read_end(self._job.result(0))
        except JobLostError as error:
            may_repeat = self._settings.repeatable and not self._is_touched
            return Ended(OUR_FAILURE, str(error), is_ours=True, may_repeat=may_repeat)
        except (ParallelError, KeyboardInterrupt, concurrent.futures.CancelledError) as error:
            text = f"{self._job.words[0]} at {self.host}: {error or type(error).__name__}"
            return Ended(OUR_FAILURE, text, is_ours=True)

    def _read_end(self, told: Any) -> Ended:
        """Return what the worker tells of the end."""
        name = self._job.words[0]
        if not isinstance(told, dict) or type(told.get("status")) is not int:
            return Ended(OUR_FAILURE, f"{self.host}: not the end of a program", is_ours=True)
        status: int = told["status"]
        if "why" in told:
            lacks_folder = status == OUR_FAILURE and told.get("errno") in {errno.ENOENT, errno.ENOTDIR}
            is_name = status == NOT_FOUND and told.get("filename") == os.fsdecode(name)  # not a login shell
            meant = hint(os.fsdecode(name)) if is_name else ""
            text = f"{self.host}: {meant or told['why']}"
            return Ended(status, text, is_ours=status == OUR_FAILURE, lacks_folder=lacks_folder)
        if told.get("timed_out"):
            limit = self._settings.time_limit or 0.0
            return Ended(TIME_LIMIT, f"{name} at {self.host} was ended at its time limit of {limit:g} s")
        return Ended(status if status >= 0 else 128 - status)


def is_one_output(request: Request, ends: Sequence[int]) -> bool:
    """Whether standard output and standard error of a caller are the same, so that their order is seen."""
    return not (request.closed[STDOUT] or request.closed[STDERR]) and os.path.sameopenfile(*ends[1:3])


def terminal_size(*descriptors: int) -> tuple[int, int]:
    """Return rows and columns of the first of some descriptors that is a terminal and knows its size."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(descriptor)
            if rows and columns:
                return rows, columns
    return 24, 80


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
