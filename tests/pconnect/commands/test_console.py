"""Display of engines' output: whole characters, whole lines, their source, and notices of missing bytes."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect import Network, quiet, reval
from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.commands.console import Console, StandardStreams, with_prefix
from pconnect.errors import ConnectionLostError, ProtocolError
from pconnect.link.peer import Peer
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind
from tests.support.links import LIMIT, FakeServer, client_of

Client = tuple[Network, list[FakeServer]]

DROPPED = "bytes of output were dropped: this client read nothing for a second"


def command(number: int = 1, node: int = 1) -> Command:
    return Command("x", Peer(), (node, f"host{node}"), number, EventLoop())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Recorder:
    """A sink like a notebook's."""

    def __init__(self, max_shown_bytes: int | None = None) -> None:
        self.max_shown_bytes = max_shown_bytes
        self.written: list[tuple[int, str, int, str, Command | None]] = []

    def write(self, node: int, host: str, stream: int, text: str, command: Command | None) -> None:
        self.written.append((node, host, stream, text, command))

    @property
    def text(self) -> str:
        return "".join(text for _, _, _, text, _ in self.written)


def recording(max_shown_bytes: int | None = None) -> tuple[Console, Recorder]:
    console, sink = Console(), Recorder(max_shown_bytes)
    console.sink = sink
    return console, sink


# --- from bytes to text ---


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from("\n\t")), st.data())
def test_a_character_may_come_in_pieces(text: str, data: st.DataObject) -> None:
    console, sink = recording()
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        console.take(1, "host1", 1, [1, whole[begin:end], 0], None)
    assert sink.text == text


def test_each_node_and_stream_has_its_own_half_of_a_character() -> None:
    console, sink = recording()
    for part in (b"\xe2", b"\x82", b"\xac"):
        for node in (1, 2):
            for stream in (1, 2):
                console.take(node, "", stream, [1, part, 0], None)
    assert sink.text == "€" * 4


def test_what_is_no_character_is_shown_as_such() -> None:
    console, sink = recording()
    console.take(1, "", 1, [1, b"a\xff\xe2", 0], None)
    assert sink.text == "a\ufffd"
    console.end(1, None)  # the other half will not arrive
    assert sink.text == "a\ufffd\ufffd"


def test_dropped_bytes_have_a_line_of_their_own() -> None:
    console, sink = recording()
    console.take(1, "", 1, [1, b"one\ntw\xe2", 0], None)
    console.take(1, "", 1, [1, b"four\n", 1234567], None)
    console.take(1, "", 1, [1, b"", 1], None)
    assert sink.text == f"one\ntw\ufffd\n(1234567 {DROPPED})\nfour\n(1 {DROPPED})\n"


@pytest.mark.parametrize(
    "value", [b"old", [1, b""], ["1", b"", 0], [1, "text", 0], [1, b"", None], [1, b"", -1], None]
)
def test_what_is_no_output_is_an_error_of_the_peer(value: object) -> None:
    with pytest.raises(ProtocolError):
        recording()[0].take(1, "", 1, value, None)


def test_a_stream_that_does_not_exist() -> None:
    with pytest.raises(ProtocolError):
        recording()[0].take(1, "", 3, [1, b"", 0], None)


# --- sinks ---


def test_a_sink_receives_the_node_and_the_command() -> None:
    console, sink = recording()
    first = command()
    console.take(2, "hostB", 2, [1, b"a", 0], first)
    console.take(2, "hostB", 1, [0, b"b", 0], None)
    assert sink.written == [(2, "hostB", 2, "a", first), (2, "hostB", 1, "b", None)]


def test_a_quiet_command_is_kept_and_not_shown() -> None:
    console, sink = recording()
    first = command()
    first.is_quiet = True
    console.take(1, "", 1, [1, b"a\n", 3], first)
    console.end(1, first)
    assert sink.written == []
    assert first.stdout == f"(3 {DROPPED})\na\n"


def test_what_is_shown_of_a_command_is_limited_and_the_rest_is_counted() -> None:
    console, sink = recording(max_shown_bytes=10)
    first = command()
    for _ in range(4):
        console.take(1, "", 1, [1, b"abc\n", 0], first)
        console.take(1, "", 2, [1, b"x", 0], first)
    console.take(2, "", 1, [1, b"another node\n", 0], None)
    console.end(1, first)
    shown = "".join(text for node, _, stream, text, _ in sink.written if (node, stream) == (1, 1))
    assert shown == "abc\nabc\nab\n(6 more bytes of stdout are not shown here)\n"
    assert sink.text.count("x") == 4
    assert first.stdout == "abc\n" * 4
    console.take(1, "", 1, [2, b"the next one", 0], None)
    assert sink.text.endswith("the next o")


def test_a_sink_that_fails_is_left_alone_and_the_command_has_it_all(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Recorder):
        def write(self, *_: object) -> None:
            raise RuntimeError("no cell")

    console = Console()
    console.sink = Failing()
    first = command()
    for _ in range(3):
        console.take(1, "", 1, [1, b"a", 0], first)
    assert len(caplog.records) == 1
    assert "no cell" in caplog.text
    assert first.stdout == "aaa"
    console.sink = sink = Recorder()
    console.take(1, "", 1, [1, b"b", 0], first)
    assert sink.text == "b"


# --- characters and sequences that pass ---


def test_prints_do_not_control_the_terminal_however_they_come() -> None:
    console, sink = recording()
    for part in (b"\x1b[31mr", b"\x1b", b"]0;t\x07", b"\xc2", b"\x9b2J", b"\r9\n\x1b[3"):
        console.take(1, "", 1, [1, part, 0], None)
        console.take(2, "", 1, [1, b".", 0], None)
    console.end(1, None)
    red, off = "\x1b[0;31m", "\x1b[0m"
    assert "".join(text for node, _, _, text, _ in sink.written if node == 1) == (
        rf"{red}r{off}{red}\x1b]0;t\x07{off}{red}\x9b2J{off}" + f"\r{red}9{off}\n" + r"\x1b[3"
    )
    assert "".join(text for node, _, _, text, _ in sink.written if node == 2) == "......"


def test_a_trusted_network_may_print_what_it_likes() -> None:
    console, sink = recording()
    console.take(1, "", 1, [1, b"\x1b[", 0], None)
    console.is_trusted = True
    console.take(1, "", 1, [1, b"\x1b[2J\x07", 0], None)
    assert sink.text == r"\x1b[" + "\x1b[2J\x07"


# --- lines ---


def shown(*pieces: tuple[int, int, str]) -> tuple[str, str]:
    """Return the output of the standard sink on each stream, for pieces of nodes and streams."""
    out, err, sink = io.StringIO(), io.StringIO(), StandardStreams()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        for node, stream, text in pieces:
            sink.write(node, f"host{node}", stream, text, None)
    return out.getvalue(), err.getvalue()


def test_the_node_is_in_front_of_each_line() -> None:
    out, err = shown((1, 1, "one\n\ntw"), (1, 1, "o\n"), (2, 2, "three\n"))
    assert out == "[1 host1] one\n[1 host1] \n[1 host1] two\n"
    assert err == "[2 host2] three\n"


def test_a_line_is_ended_when_another_node_prints() -> None:
    out, _ = shown((1, 1, "."), (1, 1, "."), (2, 1, "two\n"), (1, 1, "."), (2, 1, "a"), (2, 1, "b\n"))
    assert out == "[1 host1] ..\n[2 host2] two\n[1 host1] .\n[2 host2] ab\n"


def test_a_line_is_ended_where_it_is_when_another_stream_goes_on() -> None:
    assert shown((1, 1, "out"), (1, 2, "err\n"), (1, 1, "more\n")) == (
        "[1 host1] out\n[1 host1] more\n",
        "[1 host1] err\n",
    )


def test_progress_bars_begin_their_line_anew() -> None:
    out, _ = shown((1, 1, "\r 10%"), (1, 1, "\r 20%"), (1, 1, "\r"), (1, 1, " 30%\n"), (1, 1, "done\r\n"))
    assert out == "\r[1 host1]  10%\r[1 host1]  20%\r[1 host1]  30%\n[1 host1] done\r\n"
    assert shown((1, 1, "a\r"), (1, 1, "\nb\n"))[0] == "[1 host1] a\r\n[1 host1] b\n"
    assert shown((1, 1, " 10%\r"), (2, 1, "two\n"))[0] == "[1 host1]  10%\r\n[2 host2] two\n"
    assert shown((1, 1, "\r"), (2, 1, "two\n"))[0] == "\r[2 host2] two\n"


@given(st.text("ab\n"), st.data())
def test_lines_do_not_depend_on_the_pieces(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    out, _ = shown(*[(1, 1, piece) for piece in pieces if piece])
    assert out == "".join(f"[1 host1] {line}" for line in text.splitlines(keepends=True))


def test_what_a_piece_goes_on_after_decides() -> None:
    assert with_prefix("a\rb\n", "> ", "\n") == "> a\r> b\n"
    assert with_prefix("a\n", "> ", "\r") == "> a\n"
    assert with_prefix("\n", "> ", "\r") == "\n"
    assert with_prefix("a\n", "> ", "x") == "a\n"


def test_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err, sink = Terminal(), Terminal(), StandardStreams()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    sink.write(1, "hostA", 1, "a\n", None)
    sink.write(2, "hostB", 1, "b\n", None)
    sink.write(1, "hostA", 2, "c\n", None)
    assert out.getvalue() == "\x1b[36m[1 hostA]\x1b[0m a\n\x1b[32m[2 hostB]\x1b[0m b\n"
    assert err.getvalue() == "\x1b[7;36m[1 hostA]\x1b[0m c\n"
    monkeypatch.setenv("NO_COLOR", "1")
    sink.write(1, "hostA", 1, "d\n", None)
    assert out.getvalue().endswith("b\n[1 hostA] d\n")


# --- streams that cannot be written to ---


def test_a_closed_stream_is_logged_once_and_one_in_its_place_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sink, closed, good = StandardStreams(), io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", closed)
    sink.write(1, "hostA", 1, "open line", None)
    closed.close()
    for _ in range(3):
        sink.write(1, "hostA", 1, "lost\n", None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "stdout is no longer shown: I/O operation on closed file" in caplog.text
    monkeypatch.setattr(sys, "stdout", good)
    sink.write(1, "hostA", 1, "here\n", None)
    assert good.getvalue() == "[1 hostA] here\n"


def test_a_program_without_a_console(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    StandardStreams().write(1, "hostA", 1, "lost\n", None)
    assert not caplog.records


def test_a_line_left_open_on_a_stream_that_was_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, first, second = StandardStreams(), io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", first)
    sink.write(1, "hostA", 1, "open", None)
    monkeypatch.setattr(sys, "stdout", second)
    sink.write(1, "hostA", 1, "new\n", None)
    assert (first.getvalue(), second.getvalue()) == ("[1 hostA] open", "[1 hostA] new\n")


def test_a_stream_that_takes_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="ascii", newline="\n"))
    StandardStreams().write(1, "hostA", 1, "a€\n", None)
    assert data.getvalue() == b"[1 hostA] a\\u20ac\n"


# --- from the command channel ---


@pytest.fixture
def client() -> Iterator[Client]:
    with client_of(2) as made:
        yield made


def test_output_has_the_node_in_front_of_each_line(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    net, servers = client
    command = reval("x", net[1])
    for stream, data in ((1, b"one\ntw"), (1, b"o\n"), (2, b"bad \xff\n")):
        servers[0].say(Kind.OUTPUT, [command.number, data, 0], stream)
    servers[0].end(command.number, 0.5)
    command.result(LIMIT)
    out, err = capsys.readouterr()
    assert out == "[1 host1] one\n[1 host1] two\n"
    assert err == "[1 host1] bad \ufffd\n"
    assert (command.stdout, command.stderr) == ("one\ntwo\n", "bad \ufffd\n")


def test_commands_have_what_they_printed_by_node(client: Client) -> None:
    net, servers = client
    commands = reval("x", net)
    for far, words in zip(servers, (b"one", b"two"), strict=True):
        far.say(Kind.OUTPUT, [commands.number, words, 0], 1)
        far.say(Kind.OUTPUT, [commands.number, b"", 7], 2)
        far.end(commands.number, 0.5)
    commands.result(LIMIT)
    assert commands.stdout == ["one", "two"]
    assert (
        commands.stderr == ["(7 bytes of output were dropped: this client read nothing for a second)\n"] * 2
    )


def test_what_is_no_output_closes_the_connection(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    servers[0].say(Kind.OUTPUT, b"text", 1)
    with pytest.raises(ConnectionLostError, match="not the output of an engine"):
        command.result(LIMIT)


def test_quiet_is_for_commands_sent_inside_and_their_nodes(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    net, servers = client
    before = reval("x", net[1])
    with quiet(net[1]):
        with quiet(net):
            both = reval("x", net)
        one = reval("x", net)
    after = reval("x", net[1])
    for node, far in enumerate(servers, 1):
        sent: list[Command | Commands] = [both, one, before, after] if node == 1 else [both, one]
        for command in sent:
            far.say(Kind.OUTPUT, [command.number, f"{command.number} at {node}\n".encode(), 0], 1)
            far.end(command.number, 0.5)
    for command in (before, both, one, after):
        command.result(LIMIT)
    assert both.stdout == [f"{both.number} at {node}\n" for node in (1, 2)]
    shown = capsys.readouterr().out.splitlines()
    assert sorted(shown) == sorted(
        [
            f"[1 host1] {before.number} at 1",
            f"[2 host2] {one.number} at 2",
            f"[1 host1] {after.number} at 1",
        ]
    )


def test_the_client_says_that_it_takes_output(client: Client) -> None:
    net, servers = client
    command = reval("x", net[1])
    command.is_quiet = True
    for _ in range(10):
        servers[0].say(Kind.OUTPUT, [command.number, bytes(2**13), 0], 1)
    servers[0].end(command.number, 0.5)
    command.result(LIMIT)
    net.mesh.event_loop.poll(0)
    servers[0].event_loop.poll(LIMIT)
    assert [message.kind for message in servers[0].heard].count(Kind.TAKEN) == 5
