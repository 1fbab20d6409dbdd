"""A chart of the growth of costs with the number of engines and workers: a panel for each kind of cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Each panel: its title, its unit, and the beginnings of the table lines that it shows.
_PANELS = (
    ("Connecting and closing", "s", ("pconnect", "closing")),
    ("Calls", "ms", ("no-op on all", "barrier", "allreduce", "bcast")),
    ("Memory", "MB", ("client: memory", "server: memory")),
    ("Jobs that do nothing", "1/s", ("jobs",)),
)
_COLORS = ("#c8553d", "#6b8fb3", "#4a7c59", "#b08a2e", "#7a5c99", "#444444")
_MARKS = "osD^vP"
_GUIDE = "#999999"
_TIMES = ("s", "ms")

Found = Mapping[int, Mapping[str, float]]


def save_chart(engines: Found, workers: Found, path: Path) -> None:
    """Save the chart in the format that the suffix of the path names.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    figure = Figure(figsize=(11, 8), layout="constrained")  # not pyplot, which would need a display
    for axes, (title, unit, beginnings) in zip(figure.subplots(2, 2).ravel(), _PANELS, strict=True):
        found = workers if beginnings == ("jobs",) else engines
        _draw(axes, found, unit, beginnings)
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xlabel("workers" if found is workers else "engines")
        axes.set_ylabel(unit)
    # The same figures produce the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "growth"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(axes: Any, found: Found, unit: str, beginnings: tuple[str, ...]) -> None:
    """Draw a line for each cost; with logarithmic axes, a straight line is a power of the number."""
    sizes = sorted(found)
    names = dict.fromkeys(
        name
        for figures in found.values()
        for name in figures
        if name.startswith(beginnings) and name.endswith(f", {unit}")
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.grid(which="major", color="#eeeeee")
    for name, color, mark in zip(names, _COLORS, _MARKS, strict=False):
        points = [(size, found[size][name]) for size in sizes if name in found[size]]
        label = name.removesuffix(f", {unit}")
        axes.plot(
            *zip(*points, strict=True), mark + "-", color=color, label=label, markersize=4, linewidth=1.4
        )
    if unit in _TIMES:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        low, high = axes.get_ylim()
        guide = [low * size / sizes[0] for size in sizes]
        axes.plot(sizes, guide, ":", color=_GUIDE, label="grows as the number")
        axes.set_ylim(low, max(high, guide[-1]))
    else:
        axes.set_ylim(0)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
