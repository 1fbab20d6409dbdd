"""Measures all peers in turn, so other load on the machine affects all of them equally."""

import contextlib
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.peers.apart import Apart, FailedError
from tests.benchmarks.peers.peer import Work
from tests.benchmarks.timing import is_rate

# The names of the peers and their modules, which import the compared package at the top: if it is not installed, the
# import fails, and the peer's lines say so.
HOMES = {
    "raw TLS socket": "raw",
    "pserver": "ours",
    "pserver, local": "ours_local",
    "Dask": "distributed_",
    "RPyC": "rpyc_",
    "ipyparallel": "ipyparallel_",
    "MPI": "mpi",
    "Octave": "octave_",
}
JOB_HOMES = {
    "raw TLS socket": "raw",
    "pserver": "job_ours",
    "pserver, local": "job_ours_local",
    "Dask": "job_dask",
    "ipyparallel": "job_ipyparallel",
    "mpi4py.futures": "job_mpi",
    "dispy": "job_dispy",
    "Octave": "job_octave",
}
RAW = "raw TLS socket"

# A peer's work after its answer, such as freeing memory in another process, must not slow down the next one.
_PAUSE_SECONDS = 0.1


@dataclass
class Outcome:
    """The outcome of one kind of work with one peer: a figure for each round, in seconds, or the reason for none."""

    rounds: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclass
class Comparison:
    """All measurements.

    Attributes
    ----------
    works
        The kinds of work.
    names
        The peers, including peers that could not be started.
    encryption, notes
        The peers' own descriptions; empty for peers that could not be started.
    outcomes
        Outcomes by the names of the peer and of the method.
    """

    works: Sequence[Work]
    names: Sequence[str]
    encryption: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)

    def to_raw(self, name: str, work: Work) -> float | None:
        """Return a figure as a multiple of the raw socket's rate or time; ``None`` if one is missing."""
        outcome = self.outcomes[name, work.method]
        raw = self.outcomes.get((RAW, work.reference))
        # The socket has no figures for numbers of jobs.
        if not (raw and raw.rounds and outcome.rounds) or outcome.reason or work.unit in {"jobs/s", "s"}:
            return None
        return raw.median / outcome.median if is_rate(work.unit) else outcome.median / raw.median


def compare(works: Sequence[Work], homes: Mapping[str, str], rounds: int) -> Comparison:
    """Start all peers, measure them, and end them.

    A first round does not count: in it all peers do their one-time imports, connections and allocations.
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
    """Run one kind of work on each peer for one round; each round begins with a different peer."""
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
