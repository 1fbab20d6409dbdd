"""The comparison as a picture: a panel for each work, a bar for each peer."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tests.benchmarks.peers.measure import RAW, Comparison
from tests.benchmarks.peers.peer import WORKS, Work
from tests.benchmarks.timing import TRANSFER_BYTES

_OURS = "pserver"
_ENCRYPTED, _PLAIN, _CEILING, _HIGHLIGHT = "#6b8fb3", "#e8d9b5", "#b8b8b8", "#c8553d"
_COLUMNS = 2


def save_chart(comparison: Comparison, title: str, path: Path) -> None:
    """Save the chart as PNG.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    rows = -(-(len(WORKS) + 1) // _COLUMNS)
    # Not pyplot, which would look for a display and keep the figure.
    figure = Figure(figsize=(11, 2.35 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS).ravel()
    for axes, work in zip(panels, WORKS, strict=False):
        _draw(axes, work, comparison)
    for axes in panels[len(WORKS) :]:
        axes.set_axis_off()
    panels[-1].legend(handles=_legend(), loc="center", frameon=False, fontsize=10, title=title)
    figure.savefig(path, dpi=90, format="png")


def _draw(axes: Any, work: Work, comparison: Comparison) -> None:
    names = comparison.names
    longest = 0.0
    for place, name in enumerate(names):
        outcome = comparison.outcomes[name, work.method]
        if outcome.reason:
            axes.text(0, place, f"  {outcome.reason}", va="center", fontsize=8, style="italic", color="#555")
            continue
        values = sorted(_value(duration, work) for duration in outcome.rounds)
        middle = _value(outcome.median, work)
        axes.barh(place, middle, color=_color(name, comparison), edgecolor="#444", linewidth=0.6,
                  hatch="" if comparison.encryption[name] else "///",
                  xerr=[[middle - values[0]], [values[-1] - middle]],
                  error_kw={"elinewidth": 0.9, "capsize": 2, "ecolor": "#222"})  # fmt: skip
        axes.annotate(
            _digits(middle), (values[-1], place), (4, 0), textcoords="offset points", va="center", fontsize=9
        )
        longest = max(longest, values[-1])
    better = "more" if work.unit == "MB/s" else "less"
    axes.set_title(work.title, fontsize=10.5, loc="left", fontweight="bold")
    axes.set_xlabel(f"{work.unit} ({better} is better)", fontsize=8.5)
    plain = {name for name, encryption in comparison.encryption.items() if not encryption}
    axes.set_yticks(
        range(len(names)), [f"{name} (plain)" if name in plain else name for name in names], fontsize=9
    )
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * (longest or 1.0))  # room for the numbers
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _value(duration: float, work: Work) -> float:
    return TRANSFER_BYTES / duration / 1e6 if work.unit == "MB/s" else duration * 1000


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _color(name: str, comparison: Comparison) -> str:
    if name == _OURS:
        return _HIGHLIGHT
    if name == RAW:
        return _CEILING
    return _ENCRYPTED if comparison.encryption[name] else _PLAIN


def _legend() -> list[Any]:
    return [
        Patch(facecolor=_CEILING, edgecolor="#444", label="encrypted, a socket alone"),
        Patch(facecolor=_HIGHLIGHT, edgecolor="#444", label="encrypted, pserver"),
        Patch(facecolor=_ENCRYPTED, edgecolor="#444", label="encrypted, others"),
        Patch(facecolor=_PLAIN, edgecolor="#444", hatch="///", label="not encrypted"),
    ]
