"""The unfinished commands of one node."""

import math
import sys
from typing import Any

import pytest

from pconnect.commands.command import Command
from pconnect.session.running_commands import RunningCommands
from tests.support.commands import make_command


@pytest.fixture
def three() -> tuple[RunningCommands, list[Command]]:
    """Commands 1, 2 and 3, sent and not finished."""
    commands, made = RunningCommands(), [make_command(number) for number in (1, 2, 3)]
    for command in made:
        commands.add(command)
    return commands, made


Three = tuple[RunningCommands, list[Command]]


def test_they_end_one_by_one(three: Three) -> None:
    commands, made = three
    assert commands.oldest is made[0] and commands.ended_at == -math.inf
    assert commands.finish(1, 10.0) is made[0]
    assert (commands.oldest, commands.last_finished, commands.ended_at) == (made[1], 1, 10.0)
    assert commands.finish(1, 11.0) is None
    assert commands.ended_at == 10.0
    assert list(commands.running) == [2, 3]


def test_an_ended_command_is_known_while_it_is_referenced(three: Three) -> None:
    commands, made = three
    commands.finish(1, 10.0)
    assert commands.get(1) is made[0] and commands.known == made
    del made[0]
    assert commands.get(1) is None and commands.known == made
    del made[:]
    assert [command.number for command in commands.known] == [2, 3]  # both are running


def test_nothing_is_called_when_one_is_freed_and_few_numbers_are_kept(three: Three) -> None:
    """A Ctrl-C would be lost in a call that Python makes while it frees an object."""
    commands, made = three
    for number in range(4, 5000):
        commands.add(make_command(number))
        commands.finish(number, 0.0)
    assert len(commands._known) < 300 and commands.known == made
    commands.finish(3, 0.0)
    called: list[Any] = []
    loop = made[2].event_loop  # the loop of a network outlives its commands
    sys.setprofile(lambda *event: called.append(event))
    del made[2]
    sys.setprofile(None)
    assert [frame.f_code.co_qualname for frame, event, _ in called if event == "call"] == []
    assert commands.get(3) is None and not loop.is_open


def test_an_interrupt_is_for_those_up_to_a_number(three: Three) -> None:
    commands, made = three
    assert commands.interrupt(2) == 2
    assert [command.interrupt_asked for command in made] == [True, True, False]
    assert commands.interrupted_run()
    commands.finish(1, 0.0)
    assert commands.interrupted_run()
    commands.finish(2, 0.0)
    assert not commands.interrupted_run()
    assert commands.interrupt(None) == 3
    assert made[2].interrupt_asked


@pytest.mark.parametrize("up_to", [1, 2, None])
def test_interrupting_the_same_command_again_kills(three: Three, up_to: int | None) -> None:
    commands, _ = three
    assert commands.interrupt(1) == 1
    assert commands.interrupt(up_to) is None


def test_cancelling_the_same_command_again_kills(three: Three) -> None:
    commands, made = three
    assert commands.cancel(2)
    assert not commands.cancel(2)
    assert commands.cancel(3)
    commands.finish(2, 0.0)
    commands.add(made[1])
    assert commands.cancel(2)


def test_whether_something_runs_up_to_a_number(three: Three) -> None:
    commands, _ = three
    commands.finish(1, 0.0)
    assert (commands.runs(1), commands.runs(2), commands.runs(None)) == (False, True, True)
    assert commands.drop() and commands.runs(None)


def test_those_that_are_lost_do_not_run_and_are_still_known(three: Three) -> None:
    commands, made = three
    assert commands.drop() == made
    assert (commands.running, commands.oldest, commands.drop()) == ({}, None, [])
    assert commands.known == made


def test_a_new_engine_has_ended_nothing_and_was_asked_nothing(three: Three) -> None:
    commands, _ = three
    commands.cancel(2)
    commands.finish(1, 0.0)
    commands.forget()
    assert commands.last_finished == 0
    assert commands.cancel(2)


def test_the_last_end_before_an_instant(three: Three) -> None:
    commands, _ = three
    assert commands.finished_by(math.inf) == 0
    for number in (1, 2, 3):
        commands.finish(number, 10.0 * number)
    found = [commands.finished_by(instant) for instant in (9.0, 10.0, 19.0, 20.0, 29.0, 30.0, 40.0)]
    assert found == [0, 1, 1, 2, 2, 3, 3]
    commands.forget()
    assert commands.finished_by(40.0) == 0


def test_for_ends_long_ago_a_later_one_is_returned() -> None:
    commands = RunningCommands()
    for number in range(1, 101):
        commands.finish(number, float(number))
    assert [commands.finished_by(instant) for instant in (100.0, 80.0, 71.0, 50.0, 0.0)] == [
        100,
        80,
        71,
        70,
        70,
    ]
