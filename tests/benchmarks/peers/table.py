"""The comparison as text."""

import textwrap
from collections.abc import Iterator

from tests.benchmarks.peers.measure import RAW, Comparison, Outcome
from tests.benchmarks.peers.peer import Work
from tests.benchmarks.timing import Sample

_LINE = "{:35} {:15} {:28} {:>8}"
WIDTH = 110  # width of the surrounding text; the lines of figures are shorter


def table(comparison: Comparison) -> str:
    """Return a block for each kind of work, with a line for each peer, and the notes below."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    yield _LINE.format("", "", "median (min..max)", "to raw")
    for work in comparison.works:
        yield ""
        for index, name in enumerate(comparison.names):
            outcome = comparison.outcomes[name, work.method]
            text = f"-- {outcome.reason}" if outcome.reason else figure(outcome, work)
            ratio = _ratio(comparison.to_raw(name, work))
            yield _LINE.format(work.title if index == 0 else "", name, text, ratio).rstrip()
    yield ""
    for name, note in comparison.notes.items():
        encryption = comparison.encryption[name] or "NOT ENCRYPTED"
        yield from textwrap.wrap(
            f"{name}: {encryption}; {note}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    yield "  to raw: of rates (MB/s: more is better) and of times (ms: less is better), to the " + RAW


def figure(outcome: Outcome, work: Work) -> str:
    """Return the median and the spread of the rounds."""
    return Sample(outcome.rounds).text(work.unit)


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} x" if ratio < 10 else f"{ratio:.0f} x"
