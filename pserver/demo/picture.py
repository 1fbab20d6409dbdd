"""The picture of the demonstration: a temperature field, and the part that each server computed."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure

from pserver.demo.work import Floats


def save_picture(field: Floats, borders: Sequence[int], title: str, path: Path) -> None:
    """Save a field of temperatures as PNG.

    `field`: degrees, shape ``(rows, columns)``. `borders`: the first row of each slab, and the end of the last. `path`:
    the file to replace. Raises `OSError` if the file cannot be written.
    """
    rows, columns = field.shape
    # pyplot would look for a display and keep the figure.
    figure = Figure(figsize=(9, 8 * rows / columns + 0.4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(field, cmap="inferno", interpolation="bilinear")
    # No level at 20 degrees, where the plate is flat and lines would follow rounding errors.
    axes.contour(field, levels=range(-15, 100, 10), colors="white", linewidths=0.4, alpha=0.5)
    for border in borders[1:-1]:
        axes.axhline(border - 0.5, color="cyan", linewidth=1.2, linestyle=(0, (6, 4)))
    for node, (start, stop) in enumerate(pairwise(borders), 1):
        axes.text(0.985 * columns, (start + stop) / 2, f"node {node}", color="cyan", ha="right", va="center",
                  fontsize=10)  # fmt: skip
    axes.set_title(title, fontsize=12)
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    figure.colorbar(image, ax=axes, label="temperature in °C", shrink=0.9, pad=0.02)
    figure.savefig(path, dpi=120, format="png")
