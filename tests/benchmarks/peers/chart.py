"""The comparison as a chart: a panel for each kind of work, a bar for each peer."""

import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from tests.benchmarks.peers.measure import RAW, Comparison
from tests.benchmarks.peers.peer import Work
from tests.benchmarks.timing import in_unit, is_rate

_OURS = "pserver"  # and over local links
_ENCRYPTED, _PLAIN, _CEILING, _HIGHLIGHT = "#6b8fb3", "#e8d9b5", "#b8b8b8", "#c8553d"
_EDGE, _HATCH = "#444", "///"
_COLUMNS = 2
_PALETTE = 64


def save_chart(comparison: Comparison, title: str, explanation: str, path: Path) -> None:
    """Save the chart as PNG.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    rows = -(-(len(comparison.works) + 1) // _COLUMNS)
    # Not pyplot, which would need a display and keep the figure.
    figure = Figure(figsize=(11, 2.35 * rows), layout="constrained")
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(rows, _COLUMNS).ravel()
    for axes, work in zip(panels, comparison.works, strict=False):
        _draw(axes, work, comparison)
        _label(axes, work, comparison)
    for axes in panels[len(comparison.works) :]:
        axes.set_axis_off()
    panels[-1].legend(handles=_legend(), loc="center", frameon=False, fontsize=10, title=explanation)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=90, format="png")
    # A palette instead of 16 million colours: a third of the size without a visible difference.
    Image.open(picture).convert("RGB").quantize(_PALETTE).save(path, format="png", optimize=True)


def _draw(axes: Any, work: Work, comparison: Comparison) -> None:
    """Draw a bar for each peer, with a line from minimum to maximum, or write why there is no bar."""
    longest = 0.0
    for place, name in enumerate(comparison.names):
        outcome = comparison.outcomes[name, work.method]
        if outcome.reason:
            axes.text(0, place, f"  {outcome.reason}", va="center", fontsize=8, style="italic", color="#555")
            continue
        values = sorted(in_unit(duration, work.unit) for duration in outcome.rounds)
        middle = in_unit(outcome.median, work.unit)
        axes.barh(place, middle, color=_color(name, comparison), edgecolor=_EDGE, linewidth=0.6,
                  hatch="" if comparison.encryption[name] else _HATCH,
                  xerr=[[middle - values[0]], [values[-1] - middle]],
                  error_kw={"elinewidth": 0.9, "capsize": 2, "ecolor": "#222"})  # fmt: skip
        axes.annotate(_digits(middle), (values[-1], place), (4, 0), textcoords="offset points", va="center",
                      fontsize=9)  # fmt: skip
        longest = max(longest, values[-1])
    axes.set_xlim(0, 1.18 * (longest or 1.0))  # room for the numbers


def _label(axes: Any, work: Work, comparison: Comparison) -> None:
    better = "more" if is_rate(work.unit) else "less"
    axes.set_title(work.title, fontsize=10.5, loc="left", fontweight="bold")
    axes.set_xlabel(f"{work.unit} ({better} is better)", fontsize=8.5)
    labels = [
        name if comparison.encryption.get(name, "unknown") else f"{name} (plain)" for name in comparison.names
    ]
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _color(name: str, comparison: Comparison) -> str:
    if name.startswith(_OURS):
        return _HIGHLIGHT
    if name == RAW:
        return _CEILING
    return _ENCRYPTED if comparison.encryption[name] else _PLAIN


def _legend() -> list[Any]:
    return [
        Patch(facecolor=_CEILING, edgecolor=_EDGE, label="encrypted, plain socket"),
        Patch(facecolor=_HIGHLIGHT, edgecolor=_EDGE, label="encrypted, pserver"),
        Patch(
            facecolor=_HIGHLIGHT, edgecolor=_EDGE, hatch=_HATCH, label="not encrypted, pserver on one machine"
        ),
        Patch(facecolor=_ENCRYPTED, edgecolor=_EDGE, label="encrypted, others"),
        Patch(facecolor=_PLAIN, edgecolor=_EDGE, hatch=_HATCH, label="not encrypted"),
    ]
