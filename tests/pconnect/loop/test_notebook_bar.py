"""Bars with a shell that records its output. tests/integration/test_notebook.py uses a real kernel."""

from collections.abc import Callable
from typing import Any

from pconnect.loop.notebook_bar import NotebookBar, shell_of_kernel
from pconnect.loop.progress import ProgressBar


class Shell:
    """A kernel's shell with its publisher, events and cells."""

    def __init__(self) -> None:
        self.display_pub = self.events = self
        self.cell = "first"
        self.callbacks: list[Callable[[], None]] = []
        self.hooks: list[Callable[[Any], Any]] = []
        #: The contents of each display after each message.
        self.displays: dict[str, list[dict[str, str]]] = {}

    def get_parent(self) -> dict[str, Any]:
        return {"header": {"msg_id": self.cell}}

    def register(self, _: str, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def unregister(self, _: str, callback: Callable[[], None]) -> None:
        self.callbacks.remove(callback)

    def register_hook(self, hook: Callable[[Any], Any]) -> None:
        self.hooks.append(hook)

    def unregister_hook(self, hook: Callable[[Any], Any]) -> None:
        self.hooks.remove(hook)

    def hear(self, kind: str, **content: object) -> None:
        """Publish other output."""
        message = {"header": {"msg_type": kind}, "content": content}
        for hook in self.hooks:
            assert hook(message) is message

    def publish(
        self, data: dict[str, str], *, metadata: object, transient: dict[str, str], update: bool
    ) -> None:
        assert metadata == {}
        assert update == (transient["display_id"] in self.displays)
        self.displays.setdefault(transient["display_id"], []).append(data)

    def end(self) -> None:
        """End the cell."""
        for callback in list(self.callbacks):
            callback()

    def shown(self) -> list[str]:
        """Return the text of each display."""
        lasts = [display[-1] for display in self.displays.values()]
        return ["-" if last == NOTHING else last["text/plain"] for last in lasts]


NOTHING = {"text/plain": "", "text/html": ""}


def nodes(done: int) -> ProgressBar:
    return ProgressBar("waiting", 3, " nodes", lambda: done)


def test_all_bars_of_a_cell_are_one_display_which_is_empty_in_the_end() -> None:
    shell = Shell()
    first, second = NotebookBar(shell, nodes(1), 8), NotebookBar(shell, nodes(2), 5)
    first.draw()
    second.draw()
    both = "1 of 3 nodes done, 8 s so far\n2 of 3 nodes done, 5 s so far"
    assert shell.shown() == [both]
    ((*_, data),) = shell.displays.values()
    assert data["text/html"].count("<progress ") == 2
    first.close()
    second.close()
    ((*_, data),) = shell.displays.values()
    # The lines stay reserved, so that the output below does not jump.
    assert (data["text/plain"], data["text/html"].count("<div>&nbsp;</div>")) == ("", 2)
    first.draw()
    assert len(shell.displays) == 1
    shell.end()
    ((begin, *_, end),) = shell.displays.values()
    assert (begin, end) == ({}, NOTHING)
    assert not shell.callbacks and not shell.hooks


def test_a_bar_continues_in_the_cell_that_waits_now() -> None:
    shell = Shell()
    bar = NotebookBar(shell, nodes(1), 8)
    bar.draw()
    shell.end()
    shell.cell = "second"
    bar.draw()
    assert shell.shown() == ["-", "1 of 3 nodes done, 8 s so far"]
    bar.close()
    shell.end()
    assert shell.shown() == ["-", "-"]


def test_the_bar_of_a_thread_outlasts_other_cells() -> None:
    shell = Shell()
    bar = NotebookBar(shell, nodes(1), 8)
    bar.draw()
    shell.cell = "second"
    shell.end()
    assert shell.shown() == ["1 of 3 nodes done, 8 s so far"]
    bar.close()
    shell.end()
    assert shell.shown() == ["-"]


def test_a_display_that_the_cell_clears_is_replaced() -> None:
    shell = Shell()
    bar = NotebookBar(shell, nodes(1), 8)
    for wait in (False, True):
        before = len(shell.displays)
        bar.draw()
        shell.hear("clear_output", wait=wait)
        if wait:
            bar.draw()  # nothing has arrived yet that clears it
            assert len(shell.displays) == before + 1
            shell.hear("display_data")
        bar.draw()
        assert len(shell.displays) == before + 2
        shell.end()
        assert set(shell.shown()) == {"-"}
        assert not shell.callbacks and not shell.hooks


def test_what_is_shown_already_is_not_sent_again() -> None:
    shell = Shell()
    bar = NotebookBar(shell, nodes(1), 8)
    for _ in range(3):
        bar.draw()
    assert [len(data) for data in shell.displays.values()] == [2]
    shell.end()


def test_text_is_no_markup() -> None:
    shell = Shell()
    NotebookBar(shell, ProgressBar("<b>\x1b", 1000, "B", lambda: 5), 0).draw()
    ((*_, data),) = shell.displays.values()
    assert "&lt;b&gt;" in data["text/html"] and "\x1b" not in data["text/html"]
    shell.end()


def test_there_is_no_kernel_here() -> None:
    assert shell_of_kernel() is None
