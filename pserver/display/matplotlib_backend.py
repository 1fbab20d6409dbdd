"""The matplotlib backend of an engine: Agg draws the figures, and the client shows them.

matplotlib finds it by its name, ``module://pserver.display.matplotlib_backend``, and uses `FigureCanvas`; see
matplotlib's documentation of ``matplotlib.backends`` and ``backend_template``. As in a notebook,
`matplotlib.pyplot.show` shows all open figures and closes them; figures that are still open at the end of a command
are shown then.
"""

import builtins
import io
import warnings
from typing import Any

from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class FigureManager(FigureManagerBase):
    """pyplot's manager of an open figure."""

    def show(self) -> None:
        """Show this figure, and keep it open."""
        _display(self.canvas.figure)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:  # noqa: ARG003 - never blocks
        """Show all open figures and close them."""
        show_open_figures()


class FigureCanvas(FigureCanvasAgg):
    """The canvas for matplotlib."""

    manager_class = FigureManager


def show_open_figures() -> None:
    """Show all figures of this backend that are open in pyplot, in the order of their numbers, and close them."""
    ours = [manager for manager in Gcf.get_all_fig_managers() if isinstance(manager, FigureManager)]
    try:
        for manager in ours:
            manager.show()
    finally:
        for manager in ours:
            Gcf.destroy(manager)


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG, cropped to its contents."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi, bbox_inches="tight")
    return file.getvalue()


def _display(figure: Figure) -> None:
    display: Any = getattr(builtins, "display", None)
    if display is None:  # a program that inherited the environment of an engine
        warnings.warn(
            "only an engine itself can show figures: save this one instead", UserWarning, stacklevel=3
        )
        return
    display(figure)
