"""The backend of matplotlib in an engine: figures are drawn by Agg and shown on the client.

matplotlib finds it by its name, ``module://pserver.display.matplotlib_backend``, and uses `FigureCanvas`; see its
documentation of ``matplotlib.backends`` and ``backend_template``. As in a notebook, `matplotlib.pyplot.show` shows all
open figures and closes them, and what is still open at the end of a command is shown then.
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
    """What pyplot has of an open figure."""

    def show(self) -> None:
        """Show this figure, which stays open."""
        _display(self.canvas.figure)

    @classmethod
    def pyplot_show(cls, *, block: bool | None = None) -> None:  # noqa: ARG003 - nothing is waited for
        """Show all open figures and close them."""
        show_open_figures()


class FigureCanvas(FigureCanvasAgg):
    """What matplotlib draws on."""

    manager_class = FigureManager


def show_open_figures() -> None:
    """Show all figures of this backend that pyplot has open, in the order of their numbers, and close them."""
    ours = [manager for manager in Gcf.get_all_fig_managers() if isinstance(manager, FigureManager)]
    try:
        for manager in ours:
            manager.show()
    finally:
        for manager in ours:
            Gcf.destroy(manager)


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG, with as little space around it as its contents need."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi, bbox_inches="tight")
    return file.getvalue()


def _display(figure: Figure) -> None:
    display: Any = getattr(builtins, "display", None)
    if display is None:  # a program that inherited the environment of an engine
        warnings.warn("figures are shown only by an engine itself: save this one", UserWarning, stacklevel=3)
        return
    display(figure)
