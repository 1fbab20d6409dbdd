"""Measuring all peers by turns, so that what else the machine does meets all alike."""

import contextlib
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.peers.apart import Apart, FailedError
from tests.benchmarks.peers.peer import Work
from tests.benchmarks.timing import is_rate

# The names of the peers and their modules, which import what they compare with at the top: one that is not installed
# cannot be imported, and that is what its lines say.
HOMES = {
    "raw TLS socket": "raw",
    "pserver": "ours",
    "pserver, local": "ours_local",
    "Dask": "distributed_",
    "RPyC": "rpyc_",
    "ipyparallel": "ipyparallel_",
    "MPI": "mpi",
}
JOB_HOMES = {
    "raw TLS socket": "raw",
    "pserver": "job_ours",
    "pserver, local": "job_ours_local",
    "Dask": "job_dask",
    "ipyparallel": "job_ipyparallel",
    "mpi4py.futures": "job_mpi",
    "dispy": "job_dispy",
}
RAW = "raw TLS socket"

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
    works
        What was measured.
    names
        The peers, also those that could not be started.
    encryption, notes
        What the peers say about themselves; those that could not be started say nothing.
    outcomes
        By name of the peer and of the method.
    """

    works: Sequence[Work]
    names: Sequence[str]
    encryption: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    def to_raw(self, name: str, work: Work) -> float | None:
        """Return how many times the rate, or the time, of the raw socket it is; ``None`` if one is missing."""
        outcome = self.outcomes[name, work.method]
        raw = self.outcomes.get((RAW, work.reference))
        # A number of jobs is not what the socket was asked for.
        if not (raw and raw.rounds and outcome.rounds) or outcome.reason or work.unit in {"jobs/s", "s"}:
            return None
        return raw.median / outcome.median if is_rate(work.unit) else outcome.median / raw.median


def compare(works: Sequence[Work], homes: Mapping[str, str], rounds: int) -> Comparison:
    """Start all peers, measure them, end them.

    One round more is not counted: in it everybody imports, connects and allocates what is needed once.
    """
    outcomes = {(name, work.method): Outcome() for name in homes for work in works}
    comparison = Comparison(works, list(homes), outcomes=outcomes)
    with contextlib.ExitStack() as stack:
        peers = _start_all(stack, homes, comparison)
        for turn in range(rounds + 1):
            _tell(f"round {turn} of {rounds}" if turn else "warming up")
            for work in works:
                _measure(work, peers, turn, comparison)
        _tell("ending all")
    return comparison


def _start_all(
    stack: contextlib.ExitStack, homes: Mapping[str, str], comparison: Comparison
) -> dict[str, Apart]:
    peers = {}
    for name, home in homes.items():
        _tell(f"starting {name}")
        try:
            peer = stack.enter_context(contextlib.closing(Apart(f"tests.benchmarks.peers.{home}")))
        except FailedError as error:
            for work in comparison.works:
                comparison.outcomes[name, work.method].reason = str(error)
        else:
            peers[name] = peer
            comparison.encryption[name] = peer.encryption
            comparison.notes[name] = peer.note
    return peers


def _measure(work: Work, peers: Mapping[str, Apart], turn: int, comparison: Comparison) -> None:
    """Have each peer do a work as often as belongs to a round; in each round another one begins."""
    names = list(peers)
    begin = turn % max(1, len(names))
    for name in names[begin:] + names[:begin]:
        outcome = comparison.outcomes[name, work.method]
        if outcome.reason:
            continue
        time.sleep(_PAUSE_SECONDS)
        try:
            duration = peers[name].measure(work.method, work.repeats)
        except FailedError as error:
            outcome.reason = str(error)
        else:
            if turn:
                outcome.rounds.append(duration)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
