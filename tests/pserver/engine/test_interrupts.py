"""SIGINT in an engine: in a command, between two, before its message and after it."""

import os
import signal
from collections.abc import Iterator

import pytest

from pserver.engine.interrupts import Interrupts


class Supervisor:
    """What has been sent, and not been taken in yet."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.interrupts = Interrupts(self.take_in)

    def take_in(self) -> None:
        for number in self.sent:
            self.interrupts.meant_for = number
        self.sent.clear()

    def interrupt(self, number: int) -> None:
        self.sent.append(number)
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    before = signal.getsignal(signal.SIGINT)
    yield Supervisor()
    signal.signal(signal.SIGINT, before)


def test_in_a_command_the_signal_is_an_interrupt(supervisor: Supervisor) -> None:
    supervisor.interrupts.in_command = True
    with pytest.raises(KeyboardInterrupt):
        supervisor.interrupt(1)


def test_a_signal_before_its_command_ends_that(supervisor: Supervisor) -> None:
    supervisor.interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        supervisor.interrupts.check(2)
    supervisor.interrupts.check(2)  # once


def test_a_signal_after_its_command_ends_no_other(supervisor: Supervisor) -> None:
    supervisor.interrupt(2)
    supervisor.interrupts.check(3)
    supervisor.interrupts.check(2)


def test_without_a_signal_nothing_is_looked_at(supervisor: Supervisor) -> None:
    supervisor.sent.append(1)
    supervisor.interrupts.check(1)
    assert supervisor.sent == [1]
