"""Displays, warnings and log records of the user's code."""

import builtins
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from pserver.display.hooks import Hooks, LogForwarder
from pserver.display.outbox import Outbox
from tests.support.front_end import Far


@contextlib.contextmanager
def without_handlers() -> Iterator[None]:
    """Remove pytest's handlers from the root logger during a test."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before


def test_a_forked_process_keeps_its_hands_off_the_connection(
    far: Far, hooks: tuple[Hooks, dict[str, Any]]
) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with os.fdopen(writer, "w") as sys.stdout, without_handlers():
                sys.stderr = sys.stdout
                hooks[1]["display"]("shown")
                logging.getLogger("pserver.test.child").warning("logged")
                warnings.showwarning("warned", UserWarning, "file.py", 3)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    os.waitpid(pid, 0)
    assert text.splitlines()[:2] == ["'shown'", "logged"]
    assert "file.py:3: UserWarning: warned" in text
    far.loop.poll(0)
    assert far.heard == []


def test_a_display(far: Far, hooks: tuple[Hooks, dict[str, Any]]) -> None:
    class Bold:
        def _repr_html_(self) -> str:
            return "<b>x</b>"

        def __repr__(self) -> str:
            return "x"

    assert vars(builtins)["display"] == hooks[1]["display"]
    hooks[1]["display"](Bold(), 3)
    assert far.hear(2) == [
        ["display", {"data": {"text/plain": "x", "text/html": "<b>x</b>"}, "metadata": {}}],
        ["display", {"data": {"text/plain": "3"}, "metadata": {}}],
    ]


def test_a_display_beyond_the_limit_is_replaced_by_a_text(
    far: Far, hooks: tuple[Hooks, dict[str, Any]]
) -> None:
    class Large:
        def _repr_png_(self) -> bytes:
            return bytes(2**19)  # half of the limit of a message

    hooks[1]["display"](Large())
    [[_, content]] = far.hear(1)
    assert set(content["data"]) == {"text/plain"}
    assert (
        "text/plain, image/png) exceed the limit of a display, 524288 bytes>" in content["data"]["text/plain"]
    )


def test_a_warning(far: Far, hooks: tuple[Hooks, dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    class OfAPackage(RuntimeWarning):
        pass

    del hooks
    warnings.warn("careful", OfAPackage, stacklevel=1)
    [[what, content]] = far.hear(1)
    assert what == "warning"
    assert content["category"] == "OfAPackage"
    assert content["bases"] == ["RuntimeWarning", "Warning", "Exception", "BaseException", "object"]
    assert (content["message"], content["module"], content["filename"]) == ("careful", __name__, __file__)
    assert content["line"] == 'warnings.warn("careful", OfAPackage, stacklevel=1)'
    assert content["lineno"] > 1
    assert capsys.readouterr().err == ""


def test_a_warning_for_a_file_is_written_there(
    hooks: tuple[Hooks, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    del hooks
    warnings.showwarning("careful", UserWarning, "file.py", 3, file=sys.stdout)
    assert "file.py:3: UserWarning: careful" in capsys.readouterr().out


def test_a_warning_of_a_command_is_of_the_main_module(far: Far, hooks: tuple[Hooks, dict[str, Any]]) -> None:
    hooks[0].show_warning("a", UserWarning, "<command 3>", 1, line="x")
    hooks[0].show_warning("a", UserWarning, "/nowhere/sim.py", 1)
    assert [content["module"] for _, content in far.hear(2)] == ["__main__", "sim"]


def test_a_log_record(far: Far, hooks: tuple[Hooks, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    del hooks
    logger = logging.getLogger("pserver.test.record")
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    try:
        raise KeyError("lost")
    except KeyError:
        with without_handlers():
            logger.debug("x = %d", 3, exc_info=True, stack_info=True)
    [[what, content]] = far.hear(1)
    assert what == "log"
    assert (content["name"], content["levelno"], content["message"]) == (logger.name, 10, "x = 3")
    assert (content["pathname"], content["funcName"], content["process"]) == (
        __file__,
        "test_a_log_record",
        os.getpid(),
    )
    assert content["threadName"] == "MainThread"
    assert "KeyError: 'lost'\nStack (most recent call last):" in content["exc_text"]
    assert all(type(item) in {str, int, float} for item in content.values())


def test_a_record_goes_where_the_user_has_said(
    far: Far,
    hooks: tuple[Hooks, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    del hooks
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", root.level)
    with without_handlers():
        logging.basicConfig(level=logging.INFO, format="%(name)s says %(message)s")
        logging.getLogger("pserver.test.configured").info("hello")
    assert capsys.readouterr().err == "pserver.test.configured says hello\n"
    far.loop.poll(0)
    assert far.heard == []


def test_a_record_whose_text_cannot_be_made_is_an_error_of_logging(
    far: Far, outbox: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    record = logging.LogRecord("name", logging.WARNING, "file.py", 1, "%d", ("no number",), None)
    LogForwarder(outbox).handle(record)
    assert "Logging error" in capsys.readouterr().err
    far.loop.poll(0)
    assert far.heard == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "module://pserver.display.matplotlib_backend"),
        ("module://matplotlib_inline.backend_inline", "module://pserver.display.matplotlib_backend"),
        ("svg", "svg"),
    ],
)
def test_the_backend_is_ours_unless_the_user_has_chosen(
    hooks: tuple[Hooks, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    monkeypatch.setenv("MPLBACKEND", before)
    hooks[0].install({})
    assert os.environ["MPLBACKEND"] == after
