"""Watch the output of several running programs, piece by piece in the order of arrival."""

import queue
import signal
from collections.abc import Sequence
from typing import NamedTuple

from pconnect.programs.program import ProgramJob
from pconnect.programs.streams import STDERR, STDOUT, Credit, GivenInput


class Piece(NamedTuple):
    """A piece of a program's output. Empty data means the end of the stream."""

    job: ProgramJob
    stream: int  #: 1 standard output, 2 standard error
    data: bytes


class Watched:
    """Running programs. `jobs`: their jobs, not yet started. `data`: the standard input of each."""

    def __init__(self, jobs: Sequence[ProgramJob], data: bytes) -> None:
        self.jobs = jobs
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._open = 0
        self._credits: dict[tuple[ProgramJob, int], Credit] = {}
        for job in jobs:
            job.input = GivenInput(job.send, data)
            for stream in (STDOUT, STDERR):
                credit = self._credits[job, stream] = Credit()
                job.outputs_by_stream[stream] = _Stream(job, stream, credit, self._pieces)
                self._open += 1

    def start(self) -> None:
        """Start all programs, each as soon as a worker is free."""
        for job in self.jobs:
            job.start()

    def take(self) -> Piece | None:
        """Wait for the next piece and return it; ``None`` when all programs have ended."""
        while self._open:
            piece = self._pieces.get()
            if piece is None:
                self._open -= 1
                continue
            if told := self._credits[piece.job, piece.stream].take(len(piece.data)):
                piece.job.grant(piece.stream, told)
            return piece
        return None

    def interrupt(self) -> None:
        """Act like Ctrl-C: send SIGINT to running programs, and cancel those that have not started."""
        for job in self.jobs:
            if job.is_started:
                job.signal(signal.SIGINT)
            else:
                job.cancel()

    def cancel(self) -> None:
        """End all running programs: send SIGTERM, and five seconds later SIGKILL."""
        for job in self.jobs:
            if not job.done():
                job.cancel()


class _Stream:
    """One output stream, in the form that its job expects."""

    def __init__(
        self, job: ProgramJob, stream: int, credit: Credit, pieces: "queue.SimpleQueue[Piece | None]"
    ) -> None:
        self._job, self._stream, self._credit = job, stream, credit
        self._pieces = pieces

    def take(self, data: bytes) -> None:
        self._credit.arrive(len(data))
        self._pieces.put(Piece(self._job, self._stream, data))

    def fail(self, _: BaseException | None) -> None:
        self._pieces.put(None)

    def begin_again(self) -> None:
        """Do nothing: earlier output was already shown."""
