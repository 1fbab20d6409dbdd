"""Notes on their way to a supervisor: their contents, their order, and what is dropped."""

import builtins
import contextlib
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import pytest

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pserver.display.outbox import Hooks, LogForwarder, Outbox
from tests.support.links import LIMIT, channels


def instant(seconds: float) -> float:
    return time.monotonic() + seconds


FEW = 2**14  # bytes: so little may wait


class Far:
    """The supervisor's end."""

    def __init__(self) -> None:
        near, far = channels()
        self.engine_loop, self.loop = EventLoop(), EventLoop()
        self.engine_end = Connection(0, "supervisor", near, role=Role.ENGINE)
        self.engine_loop.add(self.engine_end)
        self.end = Connection(1, "engine", far, role=Role.OVERSEER)
        self.heard: list[Message] = []
        self.end.on_message = self.heard.append
        self.loop.add(self.end)

    def hear(self, count: int) -> list[Any]:
        """Return the next values, while the engine's loop runs too."""

        def enough() -> bool:
            self.engine_loop.poll(0)
            return len(self.heard) >= count

        self.loop.run_until(enough, instant(LIMIT), "notes")
        values = [message.value for message in self.heard[:count]]
        del self.heard[:count]
        return values

    def hear_all(self) -> list[Any]:
        """Return all values up to the end of a command."""
        while not self.heard or self.heard[-1].kind is not Kind.DONE:
            self.engine_loop.poll(0)
            self.loop.poll(0)
        return [message.value for message in self.heard[:-1]]

    def end_command(self, outbox: Outbox) -> None:
        outbox.release()
        self.engine_end.post(Kind.DONE, 1, 0.0)


@pytest.fixture
def far() -> Iterator[Far]:
    far = Far()
    yield far
    far.engine_loop.close()
    far.loop.close()


@pytest.fixture
def outbox(far: Far) -> Outbox:
    made = Outbox(far.engine_end, far.engine_loop, FEW, patience=0.2)
    made.number = 7
    return made


def write_warning(  # noqa: PLR0917 - as Python's has it
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Do what Python does where pytest does not gather warnings."""
    (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


@pytest.fixture
def hooks(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hooks, dict[str, Any]]]:
    """Install the hooks until the end of the test."""
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    monkeypatch.setattr(builtins, "display", None, raising=False)
    monkeypatch.setenv("MPLBACKEND", "")
    monkeypatch.setattr(warnings, "showwarning", write_warning)
    made = Hooks(outbox, 2**20)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        made.install(names)
        yield made, names


@contextlib.contextmanager
def without_handlers() -> Iterator[None]:
    """Take away what pytest has put at the root for the time of a test."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = before


def from_thread(step: Any) -> None:
    thread = threading.Thread(target=step)
    thread.start()
    thread.join(LIMIT)


def test_a_note_of_the_main_thread_goes_at_once(far: Far, outbox: Outbox) -> None:
    assert outbox.put("log", {"a": 1}, 1)
    far.loop.run_until(lambda: bool(far.heard), instant(LIMIT), "a note")
    message = far.heard[0]
    assert (message.kind, message.tag, message.value) == (Kind.FRONT_END, 7, ["log", {"a": 1}])


def test_a_note_of_another_thread_goes_with_the_next_look_of_the_main_thread(
    far: Far, outbox: Outbox
) -> None:
    from_thread(lambda: outbox.put("log", {"from": "thread"}, 1))
    far.loop.poll(0)
    assert far.heard == []
    assert far.hear(1) == [["log", {"from": "thread"}]]


def test_a_note_made_inside_our_loop_waits(far: Far, outbox: Outbox) -> None:
    with far.engine_loop.sigint_deferred:
        outbox.put("log", {"from": "a finalizer"}, 1)
        assert not far.engine_end.wants_to_write
        far.loop.poll(0)
        assert far.heard == []
    assert far.hear(1) == [["log", {"from": "a finalizer"}]]


def test_notes_come_before_the_end_of_their_command(far: Far, outbox: Outbox) -> None:
    for number in range(20):
        from_thread(lambda number=number: outbox.put("log", {"n": number}, 1))
    far.end_command(outbox)
    assert [value[1]["n"] for value in far.hear_all()] == list(range(20))


@pytest.mark.parametrize("in_threads", [False, True])
def test_what_is_dropped_is_counted_exactly_where_it_is_missing(
    far: Far, outbox: Outbox, in_threads: bool
) -> None:
    total, text = 4000, "x" * 1000  # 4 MB, more than the socket takes; nobody reads

    def flood(first: int) -> None:
        for number in range(first, total, 4):
            outbox.put("log", {"n": number, "text": text}, len(text))

    if in_threads:
        threads = [threading.Thread(target=flood, args=[first]) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    else:
        for first in range(4):
            flood(first)
    far.end_command(outbox)
    assert far.engine_end.unsent_bytes < 2 * FEW + 2**12
    values = far.hear_all()
    arrived = [content["n"] for what, content in values if what == "log"]
    dropped = [int(content["message"].split()[0]) for what, content in values if what == "warning"]
    assert len(set(arrived)) == len(arrived)
    assert len(arrived) + sum(dropped) == total
    assert sum(dropped) > 0


def test_it_goes_on_when_the_supervisor_reads_again(far: Far, outbox: Outbox) -> None:
    text = "x" * 1000
    for number in range(2000):
        outbox.put("log", {"n": number, "text": text}, len(text))
    far.end_command(outbox)
    far.hear_all()
    far.heard.clear()
    outbox.put("log", {"n": "after"}, 1)
    assert far.hear(1) == [["log", {"n": "after"}]]


def test_a_display_that_is_larger_than_what_may_wait_passes_alone(far: Far, outbox: Outbox) -> None:
    data = {"image/png": bytes(4 * FEW)}
    outbox.put("display", data, 4 * FEW)
    assert far.hear(1) == [["display", data]]


def test_a_display_waits_a_little_for_room_and_then_is_dropped(far: Far, outbox: Outbox) -> None:
    begin = time.monotonic()
    for _ in range(20):
        outbox.put("display", {"data": {"image/png": bytes(2**20)}}, 2**20)
    assert 0.2 < time.monotonic() - begin < 2 * 0.2 + 5  # once, not for each
    far.end_command(outbox)
    values = far.hear_all()
    displays = [value for value in values if value[0] == "display"]
    assert values[-1][1]["message"].startswith(f"{20 - len(displays)} notes ")


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
            return bytes(2**19)  # half of what a message may have

    hooks[1]["display"](Large())
    [[_, content]] = far.hear(1)
    assert set(content["data"]) == {"text/plain"}
    assert "text/plain, image/png), the limit of a display is 524288>" in content["data"]["text/plain"]


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


def test_long_texts_are_cut_and_say_so(far: Far, outbox: Outbox) -> None:
    record = logging.LogRecord("n" * 5000, logging.WARNING, "p" * 5000, 1, "é" * 50_000, (), None)
    LogForwarder(outbox).handle(record)
    [[_, content]] = far.hear(1)
    assert content["message"].endswith("é ... (cut: it has 100000 bytes)")
    assert len(content["name"]) == len(content["pathname"]) == 1024
    assert sum(len(str(item).encode()) for item in content.values()) < 2**16


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
