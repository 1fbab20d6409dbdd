import io
import os
import shutil

import pytest

from pserver.pstat.screen import Screen
from pserver.pstat.table import Cell


class Terminal(io.StringIO):
    """The text written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 6)))


def test_a_terminal_is_drawn_over() -> None:
    terminal = Terminal()
    screen = Screen(terminal)
    assert screen.columns == 80
    screen.show(["one", "two"], again=True)
    screen.show(["three"], again=True)
    screen.show(["four"], again=True)
    assert terminal.getvalue() == "\x1b[Jone\ntwo\n\x1b[2F\x1b[Jthree\n\x1b[1F\x1b[Jfour\n"


def test_more_than_the_screen_holds_is_counted() -> None:
    terminal = Terminal()
    screen = Screen(terminal)
    screen.show([str(number) for number in range(20)], again=True)
    assert terminal.getvalue() == "\x1b[J0\n1\n2\n3\n... 16 more lines\n"
    screen.show(["x"], again=True)
    assert terminal.getvalue().endswith("\x1b[5F\x1b[Jx\n")


def test_a_file_gets_plain_text_one_after_the_other() -> None:
    file = io.StringIO()
    screen = Screen(file)
    screen.show(["one"] * 9, again=True)
    screen.show([screen.paint(Cell("two", "bad"))], again=True)
    assert file.getvalue() == "one\n" * 9 + "two\n" and screen.columns == 200


def test_colours_are_for_terminals_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Screen(Terminal()).paint(Cell("x", "bad")) == "\x1b[31mx\x1b[0m"
    assert Screen(Terminal()).paint(Cell("x")) == "x" and Screen(Terminal()).paint(Cell("  ", "bad")) == "  "
    monkeypatch.setenv("NO_COLOR", "1")
    assert Screen(Terminal()).paint(Cell("x", "bad")) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert Screen(Terminal()).paint(Cell("x", "bad")) == "x" and not Screen(Terminal()).is_terminal
