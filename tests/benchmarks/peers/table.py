"""The comparison as text."""

import textwrap
from collections.abc import Iterator

from tests.benchmarks.peers.measure import RAW, Comparison, Outcome
from tests.benchmarks.peers.peer import WORKS, Work
from tests.benchmarks.timing import Sample

_LINE = "{:35} {:15} {:28} {:>8}"
_WIDTH = 100


def table(comparison: Comparison) -> str:
    """Return a block of lines for each work, one for each peer, and the notes below."""
    return "\n".join(_lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    names = list(dict.fromkeys(name for name, _ in comparison.outcomes))
    yield _LINE.format("", "", "median (min..max)", "to raw")
    for work in WORKS:
        yield ""
        for index, name in enumerate(names):
            outcome = comparison.outcomes[name, work.method]
            title = work.title if index == 0 else ""
            if outcome.reason:
                yield _LINE.format(title, name, f"-- {outcome.reason}", "")[: _WIDTH + 20].rstrip()
            else:
                ratio = comparison.to_raw(name, work)
                ratio_text = "" if ratio is None else f"{ratio:.2f} x"
                yield _LINE.format(title, name, figure(outcome, work), ratio_text).rstrip()
    yield ""
    for name, note in comparison.notes.items():
        encryption = comparison.encryption[name] or "NOT ENCRYPTED"
        yield from textwrap.wrap(
            f"{name}: {encryption}; {note}", _WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    yield "  to raw: of rates (MB/s: more is better) and of times (ms: less is better), to the " + RAW


def figure(outcome: Outcome, work: Work) -> str:
    """Return the median and the spread of the rounds."""
    return Sample(outcome.rounds).text(work.unit)
