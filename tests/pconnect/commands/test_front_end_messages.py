"""Front-end messages on the client: how they are shown, and that their errors do not reach the loop."""

import base64
import linecache
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from pconnect import RemoteError
from pconnect.commands.front_end_messages import Display, FrontEndMessages, show
from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind
from tests.support.links import LIMIT, client_of

WARNING = {
    "category": "UserWarning", "bases": ["UserWarning", "Warning"], "message": "careful", "module": "sim",
    "filename": "/x/sim.py", "lineno": 12, "line": "  careful()",
}  # fmt: skip
LOG = {
    "name": "pserver.test.sim", "levelno": 30, "message": "at 100%", "created": 1700000000.25,
    "pathname": "/x/sim.py", "lineno": 12, "funcName": "run", "process": 5, "threadName": "T", "exc_text": None,
}  # fmt: skip
DISPLAY: dict[str, Any] = {"data": {"text/plain": "a\nb"}, "metadata": {}}


def take(what: str, content: dict[str, Any], **options: Any) -> Warning | None:
    return FrontEndMessages(2, "hostB").take(5, [what, content], show, **options)


# --- warnings ---


def test_a_warning_is_issued_with_node_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="^careful$") as caught:
        assert take("warning", WARNING) is None
    [shown] = caught
    assert (shown.filename, shown.lineno) == ("[2 hostB] /x/sim.py", 12)
    assert (shown.message.node, shown.message.host) == (2, "hostB")  # type: ignore[union-attr]
    assert capsys.readouterr().err == ""


def test_nothing_of_a_warning_controls_the_terminal() -> None:
    harmful = {
        "message": "a\x1b]0;t\x07\nb",
        "filename": "/x\x9b.py\n",
        "line": "\x1b[2J",
        "category": "X\x1b[A",
    }
    with pytest.warns(UserWarning) as caught:
        take("warning", WARNING | harmful)
    assert str(caught[0].message) == r"a\x1b]0;t\x07" + "\nb"
    assert caught[0].filename == r"[2 hostB] /x\x9b.py\n"
    assert caught[0].category is UserWarning


def test_a_warning_as_it_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*args: Any) -> None:
        sys.stderr.write(warnings.formatwarning(*args[:4]))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", write)
        take("warning", WARNING)
    assert capsys.readouterr().err == "[2 hostB] /x/sim.py:12: UserWarning: careful\n  careful()\n"
    assert not [name for name in linecache.cache if "hostB" in str(name)]


def test_no_file_is_read_for_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a file was asked for")

    monkeypatch.setattr(linecache, "updatecache", fail)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda *args, **_: warnings.formatwarning(*args[:4]))
        take("warning", WARNING | {"filename": "/dev/zero"})
        take("warning", WARNING | {"lineno": -1})


@pytest.mark.parametrize(
    ("content", "base", "name"),
    [
        ({}, UserWarning, "UserWarning"),
        ({"category": "ComplexWarning", "bases": ["RuntimeWarning"]}, RuntimeWarning, "ComplexWarning"),
        ({"category": "Mine", "bases": ["Warning"]}, Warning, "Mine"),
        ({"category": "Mine", "bases": []}, UserWarning, "UserWarning"),
        ({"category": "a b", "bases": ["DeprecationWarning"]}, DeprecationWarning, "DeprecationWarning"),
        ({"category": "eval", "bases": ["eval", "Exception", 3, "FutureWarning"]}, FutureWarning, "eval"),
    ],
)
def test_the_category_is_one_of_pythons_or_derived_from_it(
    content: dict[str, Any], base: type[Warning], name: str
) -> None:
    with pytest.warns(base) as caught:
        take("warning", WARNING | content)
    assert caught[0].category.__name__ == name


@pytest.mark.parametrize(
    "options", [{"message": "careful"}, {"module": "sim"}, {"category": UserWarning}, {"lineno": 12}]
)
def test_filters_of_the_user_apply(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():  # all other warnings are errors
        warnings.filterwarnings("ignore", **options)
        assert take("warning", WARNING) is None


def test_the_same_warning_of_several_times_is_issued_as_often() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            take("warning", WARNING)
    assert len(caught) == 3


def test_a_warning_that_is_to_be_an_error_is_returned() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warning = take("warning", WARNING)
    assert isinstance(warning, UserWarning)
    assert str(warning) == "careful"


def test_what_a_hook_raises_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SystemExit("bad hook")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", fail)
        assert take("warning", WARNING) is None
    err = capsys.readouterr().err
    assert err.startswith("[2 hostB] a message from this node caused this error here:\nTraceback")
    assert err.endswith("SystemExit: bad hook\n")


# --- log records ---


class Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    logger = logging.getLogger("pserver.test.sim")
    logger.addHandler(made)
    yield made
    logger.removeHandler(made)
    logger.setLevel(logging.NOTSET)


def test_a_log_record_is_handled_as_one_of_ours(keeper: Keeper) -> None:
    assert take("log", LOG) is None
    [record] = keeper.records
    assert record.getMessage() == "[2 hostB] at 100%"
    assert record.args == (2, "hostB", "at 100%")
    assert (record.node, record.host) == (2, "hostB")  # type: ignore[attr-defined]
    text = "%(name)s %(levelname)s %(filename)s %(module)s %(lineno)d %(funcName)s %(process)d %(threadName)s"
    formatter = logging.Formatter(f"{text} %(message)s %(msecs)d")
    assert formatter.format(record) == (
        "pserver.test.sim WARNING sim.py sim 12 run 5 T [2 hostB] at 100% 250"
    )


def test_a_traceback_is_shown(keeper: Keeper) -> None:
    take("log", LOG | {"exc_text": "Traceback: there"})
    assert logging.Formatter("%(message)s").format(keeper.records[0]) == "[2 hostB] at 100%\nTraceback: there"


def test_levels_of_the_user_apply(keeper: Keeper) -> None:
    take("log", LOG | {"levelno": logging.INFO})
    assert keeper.records == []
    logging.getLogger("pserver.test.sim").setLevel(logging.INFO)
    take("log", LOG | {"levelno": logging.INFO})
    assert len(keeper.records) == 1


def test_a_handler_that_raises_is_printed(capsys: pytest.CaptureFixture[str], keeper: Keeper) -> None:
    class Bad(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyboardInterrupt(record.args)

    bad = Bad()
    logging.getLogger("pserver.test.sim").addHandler(bad)
    try:
        take("log", LOG)
    finally:
        logging.getLogger("pserver.test.sim").removeHandler(bad)
    assert "KeyboardInterrupt" in capsys.readouterr().err
    assert len(keeper.records) == 1


# --- displays ---


def test_a_display_in_a_terminal_keeps_its_colours_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    take("display", {"data": {"text/plain": "\x1b[31mred\nred\x1b[2J\x0bb\rc"}, "metadata": {}})
    red, off = "\x1b[0;31m", "\x1b[0m"
    assert capsys.readouterr().out == (
        f"[2 hostB] {red}red{off}\n[2 hostB] {red}red\\x1b[2J\\x0bb\\rc{off}\n"
    )


def test_a_display_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    take("display", DISPLAY)
    assert capsys.readouterr().out == "[2 hostB] a\n[2 hostB] b\n"


def test_a_display_goes_to_the_sink_without_what_could_run() -> None:
    seen: list[Display] = []
    data = {"text/plain": "a", "text/html": "<script>f()</script>b", "application/javascript": "f()"}
    content = {"data": data, "metadata": {}}
    taker = FrontEndMessages(2, "hostB")
    taker.take(5, ["display", content], seen.append)
    taker.take(5, ["display", content], seen.append, trusts_displays=True)
    assert seen == [
        Display(2, "hostB", 5, {"text/plain": "a", "text/html": "b"}, {}),
        Display(2, "hostB", 5, data, {}),
    ]


def test_a_sink_that_raises_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Display) -> None:
        raise ValueError("bad sink")

    FrontEndMessages(2, "hostB").take(5, ["display", DISPLAY], fail)
    assert capsys.readouterr().err.endswith("ValueError: bad sink\n")


def test_in_ipython_all_forms_are_published() -> None:
    InteractiveShell.instance()
    try:
        with capture_output() as captured:
            show(
                Display(
                    2, "hostB", 5, {"text/plain": "a", "image/png": b"\x89PNG"}, {"image/png": {"width": 3}}
                )
            )
    finally:
        InteractiveShell.clear_instance()
    assert captured.stdout == "[2 hostB]\n"
    [output] = captured.outputs
    assert output.data == {"text/plain": "a", "image/png": base64.b64encode(b"\x89PNG").decode()}
    assert output.metadata == {"image/png": {"width": 3}}


# --- malformed messages ---


@pytest.mark.parametrize(
    "note",
    [
        None,
        [],
        ["warning"],
        ["warning", {}],
        ["warning", WARNING | {"lineno": "1"}],
        ["warning", WARNING | {"bases": "UserWarning"}],
        ["log", {}],
        ["log", LOG | {"created": "now"}],
        ["log", LOG | {"message": None}],
        ["display", {"data": {}, "metadata": {}}],
        ["display", {"data": {"text/plain": b""}, "metadata": {}}],
        ["display", {"data": {"text/plain": "", 3: ""}, "metadata": {}}],
        ["display", {"data": {"text/plain": ""}}],
        ["other", {}],
    ],
)
def test_a_malformed_note_is_an_error_of_the_peer(note: Any) -> None:
    with pytest.raises(ProtocolError, match="NOTE"):
        FrontEndMessages(2, "hostB").take(5, note, show)


# --- in a network ---


def test_a_warning_that_is_an_error_here_is_that_of_its_command() -> None:
    with client_of(1) as (net, [far]), warnings.catch_warnings():
        warnings.simplefilter("error")
        mesh: Any = net.mesh
        commands = mesh.new_commands("x", [1])
        mesh.post(commands, {})
        mesh.event_loop.flush(far.server.data)
        far.hear(Kind.COMMAND)
        for text in ("first", "second"):
            far.say(Kind.FRONT_END, ["warning", WARNING | {"message": text}], commands[0].number)
        far.end(commands[0].number, 0.5, 0, 0, 2)
        with pytest.raises(UserWarning, match="UserWarning: first") as caught:
            commands[0].result(LIMIT)
        assert isinstance(caught.value, RemoteError)
        assert commands[0].duration == 0.5
        assert far.server.failures.last_number < commands[0].number  # collective calls still work


def test_a_failure_of_the_command_counts_more_than_its_warning() -> None:
    failure = {"type": "KeyError", "bases": ["KeyError"], "message": "'a'", "traceback": "", "values_sent": 0, "seconds": 1.0}  # fmt: skip  # noqa: E501
    with client_of(1) as (net, [far]), warnings.catch_warnings():
        warnings.simplefilter("error")
        mesh: Any = net.mesh
        commands = mesh.new_commands("x", [1])
        mesh.post(commands, {})
        mesh.event_loop.flush(far.server.data)
        far.hear(Kind.COMMAND)
        far.say(Kind.FRONT_END, ["warning", WARNING], commands[0].number)
        far.end(commands[0].number, failure, 0, 0, 1)
        with pytest.raises(KeyError):
            commands[0].result(LIMIT)


def test_a_warning_outside_of_commands_that_is_an_error_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with client_of(1) as (net, [far]), warnings.catch_warnings():
        warnings.simplefilter("error")
        far.say(Kind.FRONT_END, ["warning", WARNING], 0)
        far.say(Kind.FACTS, {}, 3)
        net.mesh.event_loop.run_until(lambda: (Kind.FACTS, 3) in far.server.answers, 1e12, "facts")
    assert "UserWarning: careful" in capsys.readouterr().err


def test_a_malformed_note_ends_the_connection() -> None:
    with client_of(1) as (net, [far]):
        far.say(Kind.FRONT_END, ["other", {}], 0)
        net.mesh.event_loop.run_until(lambda: far.server.command.error is not None, 1e12, "the end")
        assert isinstance(far.server.command.error, ProtocolError)
