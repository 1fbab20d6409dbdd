import contextlib
import io
import sys

import pytest

from pconnect.loop.progress import ProgressBar
from pconnect.loop.terminal_bar import TerminalBar, clear_bars, is_seen


class Terminal(io.StringIO):
    """A stream that looks like a terminal."""

    def isatty(self) -> bool:
        return True


def test_it_is_on_a_line_that_is_blank_in_the_end() -> None:
    done = [1]
    with contextlib.redirect_stderr(Terminal()) as terminal:
        bar = TerminalBar(ProgressBar("wait\x1b[2J", 3, " nodes", lambda: done[0]))
        done[0] = 2
        bar.draw()
        clear_bars()
        assert terminal.getvalue().endswith(" \r")
        bar.close()
        clear_bars()
    shown = terminal.getvalue()
    assert "1/3" in shown and "\x1b[2J" not in shown and "\n" not in shown
    assert shown.rstrip("\r").rpartition("\r")[2].strip() == ""


@pytest.mark.parametrize("kind", ["none", "closed", "file", "terminal"])
def test_it_is_seen_at_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    stream: io.StringIO | None = {"none": None, "file": io.StringIO()}.get(kind, Terminal())
    if kind == "closed" and stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    assert is_seen() == (kind == "terminal")
