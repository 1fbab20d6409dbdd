"""SIGINT in an engine: in every order of the steps of both ends, it meets the command that it is meant for."""

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from pserver.engine.command_page import CommandPage, make_memory
from pserver.engine.interrupts import Interrupts
from tests.support.orders import Choices, every_way


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


class SteppedPage(CommandPage):
    """The engine's page; before each look and each write of the engine, others may do something."""

    before_step: Callable[[], object] = staticmethod(lambda: None)

    def _load(self, name: str) -> int:
        self.before_step()
        return super()._load(name)

    def _store(self, name: str, value: int) -> None:
        self.before_step()
        super()._store(name, value)


class Engine:
    """An engine that runs commands, and a supervisor whose steps come when `choices` says."""

    def __init__(self, choices: Choices) -> None:
        memory = make_memory()
        self.page, self.supervisor = SteppedPage(memory), CommandPage(memory)
        os.close(memory)
        self.interrupts = Interrupts(self.page, self.await_cancels)
        self.page.before_step = self.step
        self.choices = choices
        self.steps: list[Callable[[], object]] = []
        self.is_signalled = False
        self.sent: list[int] = []  # CANCEL messages
        self.outcomes: dict[int, str] = {}
        self.begun: list[int] = []

    def signal(self) -> None:
        self.is_signalled = True

    def step(self) -> None:
        for _ in range(self.choices.pick(len(self.steps) + 1) if self.steps else 0):
            self.steps.pop(0)()
        if self.is_signalled:
            self.is_signalled = False
            before, self.page.before_step = self.page.before_step, lambda: None
            try:
                self.interrupts._on_signal()
            finally:
                self.page.before_step = before

    def await_cancels(self, count: int) -> None:
        assert len(self.sent) >= count  # they were sent before they were counted
        self.interrupts.cancelled.update(self.sent)

    def run(self, number: int) -> None:
        """Do what `pserver.engine.command_runner` does."""
        self.interrupts.number = number
        self.page.begin(number)
        try:
            self.interrupts.in_command = True
            if not self.interrupts.may_begin():
                self.outcomes[number] = "not begun"
            else:
                self.begun.append(number)
                self.step()  # the user's code
                self.step()
                self.outcomes[number] = "done"
            self.interrupts.in_command = False
        except KeyboardInterrupt:
            self.interrupts.in_command = False
            self.outcomes[number] = "interrupted"
        self.page.end()

    def close(self) -> None:
        self.page.before_step = lambda: None
        self.page.close()
        self.supervisor.close()


def test_an_interrupt_ends_the_commands_up_to_its_number_and_no_other() -> None:
    outcomes = set()

    def run(choices: Choices) -> None:
        engine = Engine(choices)
        engine.steps = [lambda: engine.supervisor.interrupt(6), engine.signal]
        engine.run(5)
        was_sent = not engine.steps
        engine.run(6)
        was_sent_later = not engine.steps
        engine.run(7)
        assert engine.outcomes[7] == "done"
        assert not was_sent or engine.outcomes[6] == "not begun"
        assert not was_sent_later or engine.outcomes[6] != "done" or engine.outcomes[5] == "done"
        outcomes.add((engine.outcomes[5], engine.outcomes[6]))
        engine.close()

    assert every_way(run) > 50
    assert {("not begun", "not begun"), ("interrupted", "not begun"), ("done", "interrupted")} <= outcomes
    assert ("interrupted", "done") not in outcomes


def test_a_cancelled_command_never_begins_or_is_interrupted_and_the_one_before_runs_on() -> None:
    told: list[bool] = []

    def run(choices: Choices) -> None:
        engine = Engine(choices)
        page = engine.supervisor
        seen: dict[str, int] = {}

        def look() -> None:
            seen["begun"], seen["running"] = page.begun, page.running

        def act() -> None:
            if seen["begun"] < 6:
                told.append(True)
                seen["told"] = 1
            elif seen["running"] == 6:
                page.interrupt_one(6)
                engine.signal()

        engine.steps = [lambda: engine.sent.append(6), page.count_cancel, look, act]
        for number in (5, 6, 7):
            engine.run(number)
        assert (engine.outcomes[5], engine.outcomes[7]) == ("done", "done")
        if "told" in seen:
            assert 6 not in engine.begun
        engine.close()

    assert every_way(run) > 50
    assert told


def test_a_signal_of_the_user_s_own_ends_the_command() -> None:
    engine = Engine(Choices([], set()))
    engine.interrupts.number = 1
    signal.raise_signal(signal.SIGINT)  # outside of commands nothing happens
    engine.interrupts.in_command = True
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    engine.supervisor.interrupt_one(2)  # a signal for another is not the user's own
    os.kill(os.getpid(), signal.SIGINT)
    engine.interrupts.in_command = False
    engine.close()


def test_numbers_of_commands_that_have_ended_are_forgotten() -> None:
    engine = Engine(Choices([], set()))
    engine.interrupts.cancelled = {1, 2, 3}
    engine.run(2)
    assert engine.outcomes == {2: "not begun"}
    assert engine.interrupts.cancelled == {3}
    engine.close()
