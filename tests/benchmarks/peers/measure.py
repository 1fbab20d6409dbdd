"""Measuring all peers by turns, so that what else the machine does meets all alike."""

import contextlib
import importlib
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

import numpy as np

from tests.benchmarks.peers.peer import WORKS, Floats, Peer, Work
from tests.benchmarks.timing import TRANSFER_BYTES

# The names and homes of the peers. Each home has a function `start`, a context manager that yields a `Peer`; it imports
# what it compares with at the top, so one that is not installed fails when it is imported.
HOMES = {
    "raw TLS socket": "raw",
    "pserver": "ours",
    "Dask": "distributed_",
    "RPyC": "rpyc_",
    "ipyparallel": "ipyparallel_",
    "MPI": "mpi",
}
RAW = "raw TLS socket"

_START_SECONDS = 90.0
_WORK_SECONDS = 90.0
_END_SECONDS = 60.0

# What a peer does after its answer, such as to free memory in another process, should not count as the next one's.
_PAUSE_SECONDS = 0.1


@dataclass
class Outcome:
    """What came of one work with one peer: a figure of each round, in seconds, or why there is none."""

    rounds: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclass
class Comparison:
    """Everything that was measured.

    Attributes
    ----------
    encryption, notes
        What the peers that could be started say about themselves.
    outcomes
        By name of the peer and of the method.
    """

    encryption: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    def to_raw(self, name: str, work: Work) -> float | None:
        """Return how many times the rate, or the time, of the raw socket it is; ``None`` if one is missing."""
        outcome = self.outcomes[name, work.method]
        raw = self.outcomes.get((RAW, work.reference))
        if raw is None or not raw.rounds or not outcome.rounds:
            return None
        return raw.median / outcome.median if work.unit == "MB/s" else outcome.median / raw.median


@contextlib.contextmanager
def compare(names: Sequence[str], rounds: int) -> Iterator[Comparison]:
    """Start all peers, measure, and end them after the block.

    One round is not counted: in it everybody imports, connects and allocates what is needed once.
    """
    array = np.random.default_rng(1).standard_normal(TRANSFER_BYTES // 8)
    comparison = Comparison(outcomes={(name, work.method): Outcome() for name in names for work in WORKS})
    with contextlib.ExitStack() as stack:
        peers = _start_all(stack, names, array, comparison)
        for turn in range(rounds + 1):
            _tell(f"round {turn} of {rounds}" if turn else "warming up")
            for work in WORKS:
                _measure(work, peers, turn, comparison)
        yield comparison
        stack.enter_context(_limit(_END_SECONDS))  # of all that ends them


def _start_all(
    stack: contextlib.ExitStack, names: Sequence[str], array: Floats, comparison: Comparison
) -> dict[str, Peer]:
    peers = {}
    for name in names:
        _tell(f"starting {name}")
        try:
            with _limit(_START_SECONDS):
                home = importlib.import_module(f"tests.benchmarks.peers.{HOMES[name]}")
                peers[name] = stack.enter_context(home.start(array))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are measured and the table has the reason
            for work in WORKS:
                comparison.outcomes[name, work.method].reason = f"not started: {_reason(error)}"
        else:
            comparison.encryption[name] = peers[name].encryption
            comparison.notes[name] = peers[name].note
    return peers


def _measure(work: Work, peers: Mapping[str, Peer], turn: int, comparison: Comparison) -> None:
    """Have each peer do a work as often as belongs to a round; each time another one begins."""
    names = list(peers)
    begin = turn % max(1, len(names))
    for name in names[begin:] + names[:begin]:
        outcome = comparison.outcomes[name, work.method]
        if outcome.reason:
            continue
        time.sleep(_PAUSE_SECONDS)
        try:
            with _limit(_WORK_SECONDS):
                figure = statistics.median(getattr(peers[name], work.method)() for _ in range(work.repeats))
        except Exception as error:  # noqa: BLE001 - as above
            outcome.reason = _reason(error)
        else:
            if turn:
                outcome.rounds.append(figure)


@contextlib.contextmanager
def _limit(limit: float) -> Iterator[None]:
    """Raise TimeoutError in the block when the limit has passed, whatever library waits for whatever there."""

    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"nothing came of it within {limit:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _reason(error: BaseException) -> str:
    """Return the first line of what an error says, and of the first error in a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
