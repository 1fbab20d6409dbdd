"""Counts of jobs and programs, and the form in which a session reports them to its daemon."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MAX_LABEL = 80  # characters in the name of a function or a program
_MOST_ROWS = 4096  # rows in one message, which has no room for more anyway
_LONGEST = 1e12  # seconds; an upper bound for instants and durations
OUTCOMES = ("done", "failed", "lost")


class Work(NamedTuple):
    """Counts of ended jobs and programs, and their durations in seconds; a program does not count as a job.

    The seconds cover jobs and programs that ended by themselves, done or failed.
    """

    jobs_done: int = 0
    jobs_failed: int = 0  #: ended with an error
    jobs_lost: int = 0  #: their worker died, or was killed
    programs_done: int = 0
    programs_failed: int = 0  #: ended with a status other than 0, or could not be started
    programs_lost: int = 0
    processing_seconds: float = 0.0
    queue_seconds: float = 0.0  #: from the arrival in the worker to the start
    transfer_seconds: float = 0.0  #: for receiving jobs and sending results
    bytes_in: int = 0  #: on the links between workers and client
    bytes_out: int = 0

    def plus(self, other: "Work") -> "Work":
        """Return the sums.

        Examples
        --------
        >>> Work(jobs_done=1).plus(Work(jobs_done=2, jobs_lost=1))[:3]
        (3, 0, 1)
        """
        return Work._make(map(operator.add, self, other))

    def shown(self) -> dict[str, float]:
        """Return the counts by name, with rounded seconds."""
        return {name: round(count, 6) for name, count in self._asdict().items()}

    def since(self, before: "Work") -> "Work":
        """Return the increase since `before`. A decrease, which user code could write, counts as 0."""
        return Work._make(max(0, now - then) for now, then in zip(self, before, strict=True))


class Span(NamedTuple):
    """An ended job or program, with its start and end in seconds since 1970."""

    begin: float
    end: float
    is_program: bool
    outcome: str  #: one of `OUTCOMES`
    label: str  #: name of the function or program; empty if unknown


class Running(NamedTuple):
    """A running job or program, with its start."""

    begin: float
    is_program: bool
    label: str


class Told(NamedTuple):
    """A report of a session: new work by lease, the running jobs, and the ended ones."""

    work: Sequence[tuple[int, Work]] = ()
    running: Sequence[tuple[int, Running]] | None = None  #: ``None``: unchanged
    is_more: bool = False  #: whether these run in addition to those reported before
    spans: Sequence[tuple[int, Span]] = ()


def read_told(words: Mapping[str, Any]) -> Told:
    """Return a session's report, without the parts that make no sense.

    Sessions of other accounts could send anything.
    """
    running = words.get("running")
    return Told(
        [(row[0], Work._make(row[1:])) for row in _rows(words.get("work")) if _is_work(row)],
        None
        if not isinstance(running, list)
        else [
            (lease, Running._make([*facts, label[:MAX_LABEL]]))
            for lease, *facts, label in _rows(running)
            if _is_lease(lease) and _is_running(facts) and isinstance(label, str)
        ],
        words.get("is_more") is True,
        [
            (lease, Span._make([*facts, label[:MAX_LABEL]]))
            for lease, *facts, label in _rows(words.get("spans"))
            if _is_lease(lease) and _is_span(facts) and isinstance(label, str)
        ],
    )


def _rows(told: Any) -> list[list[Any]]:
    rows = told[:_MOST_ROWS] if isinstance(told, list) else []
    return [row for row in rows if isinstance(row, list) and len(row) > 1]


def _is_lease(number: Any) -> bool:
    return type(number) is int and number > 0


def _is_work(row: Sequence[Any]) -> bool:
    _, *counts = row
    return (
        _is_lease(row[0])
        and len(counts) == len(Work._fields)
        and all(type(count) is int and 0 <= count < 2**53 for count in (*counts[:6], *counts[9:]))
        and all(_is_time(seconds) for seconds in counts[6:9])
    )


def _is_running(facts: Sequence[Any]) -> bool:
    return len(facts) == 2 and _is_time(facts[0]) and type(facts[1]) is bool


def _is_span(facts: Sequence[Any]) -> bool:
    return (
        len(facts) == 4
        and _is_time(facts[0])
        and _is_time(facts[1])
        and facts[0] <= facts[1]
        and type(facts[2]) is bool
        and facts[3] in OUTCOMES
    )


def _is_time(seconds: Any) -> bool:
    return type(seconds) in {int, float} and 0 <= seconds < _LONGEST and math.isfinite(seconds)
