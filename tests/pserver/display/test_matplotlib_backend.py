"""The matplotlib backend, used through pyplot."""

import builtins
import io
from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.image
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from pserver.display import matplotlib_backend
from pserver.display.mime_bundle import make_bundle


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Make pyplot use the engine's backend; yield the displayed objects."""
    displayed: list[object] = []
    monkeypatch.setattr(builtins, "display", displayed.append, raising=False)
    before = mpl.get_backend()
    plt.switch_backend("module://pserver.display.matplotlib_backend")
    yield displayed
    plt.close("all")
    plt.switch_backend(before)


def test_show_shows_all_figures_in_order_and_closes_them(shown: list[object]) -> None:
    made = [plt.figure(), plt.figure()]
    plt.show()
    assert shown == made
    assert plt.get_fignums() == []
    plt.show()
    assert shown == made


def test_one_figure_is_shown_and_stays_open(shown: list[object]) -> None:
    plt.figure()
    figure = plt.figure()
    figure.show()
    assert shown == [figure]
    assert len(plt.get_fignums()) == 2


@pytest.mark.usefixtures("shown")
def test_a_figure_that_cannot_be_shown_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ValueError("cannot draw")

    monkeypatch.setattr(builtins, "display", fail)
    plt.figure()
    with pytest.raises(ValueError, match="cannot draw"):
        matplotlib_backend.show_open_figures()
    assert plt.get_fignums() == []


def test_figures_of_another_backend_are_left_alone(shown: list[object]) -> None:
    plt.switch_backend("agg")
    plt.figure()
    matplotlib_backend.show_open_figures()
    assert shown == []
    assert len(plt.get_fignums()) == 1


def test_a_figure_as_png_also_without_pyplot() -> None:
    figure = Figure(figsize=(4, 2), dpi=100)
    figure.add_subplot().plot([1, 2])
    bundle = make_bundle(figure)
    png = bundle.data["image/png"]
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    rows, columns, _ = matplotlib.image.imread(io.BytesIO(png)).shape
    assert 150 < rows < 250
    assert 300 < columns < 450
    assert bundle.data["text/plain"] == "<Figure size 400x200 with 1 Axes>"


@pytest.mark.usefixtures("shown")
def test_outside_an_engine_a_figure_is_not_shown_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(builtins, "display")
    plt.figure()
    with pytest.warns(UserWarning, match="only an engine itself"):
        plt.show()
