"""The output and displays of an engine."""

from typing import Any

import pytest

from pconnect.commands.command import Command
from pconnect.commands.engine_output import End, EngineOutput, number_of_output, read_end
from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from tests.support.commands import make_command


def printed(data: bytes, size: int = 1, number: int = 1) -> Message:
    return Message(Kind.OUTPUT, 1, [number, data, 0], size)


@pytest.fixture
def output() -> EngineOutput:
    return EngineOutput(3, "host3")


def test_what_is_printed_is_shown_and_kept_for_its_command(
    output: EngineOutput, capsys: pytest.CaptureFixture[str]
) -> None:
    command = make_command(1)
    output.take(printed(b"so far"), command)
    output.end(command)
    output.end_lines()
    assert command.stdout == "so far"
    assert capsys.readouterr().out == "[3 host3] so far\n"


def test_every_so_many_bytes_are_acknowledged(output: EngineOutput) -> None:
    quiet: Command = make_command(1)
    quiet.is_quiet = True
    sizes = [2**14 - 1, 1, 1, 2**14, 5]
    assert [output.take(printed(b"x", size), quiet) for size in sizes] == [False, True, False, True, False]


def test_displays_go_to_the_sink_and_malformed_messages_nowhere(output: EngineOutput) -> None:
    shown: list[Any] = []
    bundle = {"data": {"text/plain": "x"}, "metadata": {}}
    message = Message(Kind.FRONT_END, 5, ["display", bundle])
    assert output.take_front_end(message, shown.append, trusts_displays=False) is None
    assert [(display.node, display.number) for display in shown] == [(3, 5)]
    with pytest.raises(ProtocolError):
        output.take_front_end(Message(Kind.FRONT_END, 5, "nonsense"), shown.append, trusts_displays=False)


def test_an_error_that_no_command_can_raise_is_printed(
    output: EngineOutput, capsys: pytest.CaptureFixture[str]
) -> None:
    output.show_error(UserWarning("careful"))
    assert "[3 host3]" in (text := capsys.readouterr().err) and "careful" in text


@pytest.mark.parametrize(("value", "number"), [([7, b"", 0], 7), ([], 0), (None, 0), (["7"], 0), ({7: 8}, 0)])
def test_the_command_that_has_printed(value: object, number: int) -> None:
    assert number_of_output(value) == number


def test_an_end_counts_once_what_comes_before_it_has_been_shown(output: EngineOutput) -> None:
    command = make_command(1)
    command.is_quiet = True
    assert [end.number for end in output.take_ends(End(1, 0.5, (0, 0, 0)))] == [1]
    waiting = [End(2, 0.5, (4, 0, 0)), End(3, 0.5, (4, 3, 0)), End(4, 0.5, (0, 0, 0))]
    for end in waiting:
        assert list(output.take_ends(end)) == []
    output.take(printed(b"abc"), command)
    assert list(output.take_ends()) == []
    output.take(Message(Kind.OUTPUT, 1, [1, b"d", 0], 1), command)
    assert list(output.take_ends()) == waiting[:1]
    output.take(Message(Kind.OUTPUT, 2, [1, b"", 3], 1), command)  # dropped bytes count, too
    assert list(output.take_ends()) == waiting[1:]


def test_when_no_more_output_comes_all_ends_count(output: EngineOutput) -> None:
    ends = [End(number, 0.5, (9, 9, 9)) for number in (1, 2)]
    for end in ends:
        assert list(output.take_ends(end)) == []
    assert list(output.take_ends(is_complete=True)) == ends
    output.take_ends(ends[0])
    output.forget()
    assert list(output.take_ends(is_complete=True)) == []


@pytest.mark.parametrize(
    "value", [None, 0.5, [], [0.5, 0, 0], [0.5, 0, 0, "0"], ["0.5", 0, 0, 0], [0.5, 0, 0, 0, 0]]
)
def test_what_is_not_the_end_of_a_command(value: Any) -> None:
    with pytest.raises(ProtocolError, match="the end of a command"):
        read_end(1, value)
