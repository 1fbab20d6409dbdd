"""Run one program on a server with the streams and signals of a `prun` call."""

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
# After a signal that ends the program, a reader that takes nothing for this long loses the rest of the output.
_UNREAD_SECONDS = 1.0
_UNREAD_LOOKS = 5
_NOTICE_SECONDS = 3.0  # after this long without a slot, the call prints the reason
#: Signals that end a call while its program is not running.
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


@dataclass(frozen=True)
class Ended:
    """The end of a call: its exit status, and a text for standard error.

    `is_ours`: `prun` failed, and the program did not run to its end. `may_repeat`: the node was lost, and the program
    can safely run again. `lacks_folder`: the node does not have the working folder.
    """

    status: int
    text: str = ""
    is_ours: bool = False
    may_repeat: bool = False
    lacks_folder: bool = False


class _ClosedOutput:
    """Replaces an output that the caller has closed: a program that writes to it finds a closed pipe."""

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

    `is_begun`: it was sent to a node. `has_waited`: it was cancelled at the queue limit; `why` has the reason.
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
        self._is_watched = request.terminals[STDERR]  # a person may be waiting
        self._is_touched = False  # whether any data has passed through its streams
        self._ended_by = 0  # the last terminating signal
        self._outputs: list[DescriptorOutput] = []
        self._input: DescriptorInput | None = None
        self._open = 0
        self._over = self._loop.create_future()  # done when all output has been written
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
            stack.pop_all()  # all copies succeeded, so keep them open
        for stream in streams:
            grant = functools.partial(job.grant, stream)
            if request.closed[stream] or not is_writable(ends[stream]):
                os.close(copies[stream])
                job.outputs_by_stream[stream] = _ClosedOutput(grant)
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
        """The host that ran the program."""
        return self._job.host or "no server"

    async def run(self) -> Ended:
        """Run the program and wait for its end. On cancellation, end it without waiting."""
        job = self._job
        ended = self._loop.create_future()
        job.add_done_callback(lambda _: self._loop.call_soon_threadsafe(_settle, ended))
        job.on_begin = self._begin
        before, self._caller.on_signal = self._caller.on_signal, self._pass_signal
        job.start()
        limit = self._settings.queue_limit
        timer = None if limit is None else self._loop.call_later(limit, self._expire)
        notice = self._loop.call_later(_NOTICE_SECONDS, self._print_notice) if self._is_watched else None
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
        return self._outcome()

    def _begin(self) -> None:
        """Tell the caller that the program may now have effects. The thread of the jobs calls this."""
        self.is_begun = True
        if not self._settings.repeatable:
            self._caller.say(BEGUN)
        else:
            self._caller.say(REPEATABLE)
        if self._is_terminal:
            self._caller.say(RAW)

    def _print_notice(self) -> None:
        if not self.is_begun:
            self._caller.note(f"{self._job.words[0]} is waiting for a slot: {self._job.why}")

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
            if number != signal.SIGHUP:  # many daemons reload on SIGHUP instead of ending
                # A program that is blocked on a slow reader would not end.
                self._loop.call_later(_UNREAD_SECONDS, self._abandon_unread, self._written(), _UNREAD_LOOKS)
        if number == signal.SIGTSTP:
            self._caller.say(STOP)

    async def _drain(self) -> None:
        """Wait until all output is written. After a signal, give up readers that take nothing for a while."""
        while not self._over.done():
            counts = self._written()
            await asyncio.wait([self._over], timeout=_UNREAD_SECONDS)
            if self._ended_by:
                self._abandon_unread(counts)

    def _written(self) -> list[int]:
        return [output.written for output in self._outputs]

    def _abandon_unread(self, counts: list[int], looks: int = 1) -> None:
        """Give up blocked readers that took nothing since `counts`. Check again `looks` - 1 times."""
        for output, count in zip(self._outputs, counts, strict=True):
            if output.is_blocked and output.written == count:
                output.abandon()
        if looks > 1 and not self._over.done():
            self._loop.call_later(_UNREAD_SECONDS, self._abandon_unread, self._written(), looks - 1)

    def _outcome(self) -> Ended:
        """Return the end of the call."""
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
            text = f"{self._job.words[0]} on {self.host}: {error or type(error).__name__}"
            return Ended(OUR_FAILURE, text, is_ours=True)

    def _read_end(self, told: Any) -> Ended:
        """Read the worker's report about the end of the program."""
        name = self._job.words[0]
        if not isinstance(told, dict) or type(told.get("status")) is not int:
            return Ended(
                OUR_FAILURE, f"{self.host}: invalid report about the end of the program", is_ours=True
            )
        status: int = told["status"]
        if "why" in told:
            lacks_folder = status == OUR_FAILURE and told.get("errno") in {errno.ENOENT, errno.ENOTDIR}
            # For a login shell, the file name is not the user's word.
            is_name = status == NOT_FOUND and told.get("filename") == os.fsdecode(name)
            meant = hint(os.fsdecode(name)) if is_name else ""
            text = f"{self.host}: {meant or told['why']}"
            return Ended(status, text, is_ours=status == OUR_FAILURE, lacks_folder=lacks_folder)
        if told.get("timed_out"):
            limit = self._settings.time_limit or 0.0
            return Ended(TIME_LIMIT, f"{name} on {self.host} timed out after {limit:g} s (time limit)")
        return Ended(status if status >= 0 else 128 - status)


def is_one_output(request: Request, ends: Sequence[int]) -> bool:
    """Return whether the caller's standard output and standard error are one file, which must keep their order."""
    return not (request.closed[STDOUT] or request.closed[STDERR]) and os.path.sameopenfile(*ends[1:3])


def terminal_size(*descriptors: int) -> tuple[int, int]:
    """Return rows and columns of the first descriptor that is a terminal with a known size; 24 and 80 if none is."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(descriptor)
            if rows and columns:
                return rows, columns
    return 24, 80


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
