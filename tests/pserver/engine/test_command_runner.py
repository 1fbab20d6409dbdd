"""Commands and services, run without an engine process."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import precv, psend
from pconnect.commands.function_pickling import pack_arguments, pack_call
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.network import Network
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pserver.display.outbox import Outbox
from pserver.engine.command_page import CommandPage, GivenOutput, make_memory
from pserver.engine.command_runner import CommandRunner, Interrupts
from pserver.engine.workspace import Workspace
from pserver.services.dask_processes import DaskProcesses
from pserver.services.files import SessionFiles
from pserver.services.registry import EngineState
from pserver.services.synced_code import SyncedCode
from tests.support.links import LIMIT, channels, networks
from tests.support.orders import Choices, every_way


class Ends:
    """A runner, and the client's side of its network."""

    def __init__(self, client: Network, engine: Network, folder: Path) -> None:
        self.client = client
        near, self.far = channels()
        self.event_loop = EventLoop()
        supervisor = Connection(0, "supervisor", near, role=Role.ENGINE)
        self.event_loop.add(supervisor)
        self.outbox = Outbox(supervisor, self.event_loop)
        memory = make_memory()
        self.page = CommandPage(memory)
        os.close(memory)
        self.pipes = [os.pipe() for _ in range(2)]
        self.interrupts = Interrupts(self.page, lambda _: None)
        workspace = Workspace(engine)
        files = SessionFiles(folder, 0)
        services = EngineState(
            workspace.names,
            files,
            SyncedCode(files, []),
            DaskProcesses(files),
            "9.9",
            1,
        )
        given = GivenOutput(self.page, [writer for _, writer in self.pipes])
        self.runner = CommandRunner(
            engine.mesh, workspace, services, self.outbox, self.interrupts, self.page, given
        )
        self.ends: list[Message] = []
        client[1].on_message = self.ends.append

    def run(self, source: str, number: int = 1, kind: Kind = Kind.COMMAND, **options: Any) -> Any:
        """Return the outcome of a command."""
        self.runner.run(Message(kind, number, [source, 0, options]))
        self.client.mesh.event_loop.run_until(lambda: bool(self.ends), time.monotonic() + LIMIT, "the end")
        end = self.ends.pop()
        assert (end.kind, end.tag, end.value[1:]) == (Kind.DONE, number, [*self.given(), self.outbox.sent])
        return end.value[0]

    def given(self) -> list[int]:
        return [2, 3] if self.printed else [0, 0]

    printed = False

    def print(self) -> None:
        for (_, writer), text in zip(self.pipes, (b"ab", b"abc"), strict=True):
            os.write(writer, text)
        self.printed = True

    def close(self) -> None:
        for pipe in self.pipes:
            for descriptor in pipe:
                os.close(descriptor)
        self.page.close()

    def value(self, number: int = 1) -> Any:
        return precv(self.client[1], tag=LIBRARY_TAGS + number, timeout=LIMIT)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    main, path, handler = sys.modules["__main__"], sys.path[:], signal.getsignal(signal.SIGINT)
    try:
        with networks(2, roles=(Role.CLIENT_DATA, Role.ENGINE_DATA)) as nets:
            made = Ends(nets[0], nets[1], tmp_path)
            yield made
            made.close()
            made.far.close()
            made.event_loop.close()
    finally:
        sys.modules["__main__"], sys.path[:] = main, path
        signal.signal(signal.SIGINT, handler)


def test_a_command_takes_some_seconds_and_has_a_value_if_it_is_wanted(ends: Ends) -> None:
    assert ends.run("a = 6 * 7") >= 0
    assert ends.run("a", 2, value=True) >= 0
    assert ends.value(2) == [False, 42]
    assert (ends.runner.number, ends.runner.has_limit, ends.outbox.number) == (2, False, 0)


def test_a_command_that_fails_says_how_and_what_it_had_sent(ends: Ends) -> None:
    failure = ends.run("psend('sent', sockets[0]); 1 / 0", seconds=5.0)
    sent = ["the value", "that this node leaves the collective calls"]
    assert (failure["type"], failure["values_sent"]) == ("ZeroDivisionError", len(sent))
    assert "command_runner" not in failure["traceback"]
    assert failure["seconds"] >= 0
    assert ends.runner.has_limit
    assert ends.runner.mesh.left is not None


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_no_error_leaves_the_runner(ends: Ends, source: str) -> None:
    failure = ends.run(source)
    assert failure["type"] in source
    assert not ends.interrupts.in_command
    assert ends.run("x = 1", 2) >= 0


def test_a_command_that_was_interrupted_before_it_began(ends: Ends) -> None:
    ends.page.interrupt(1)
    failure = ends.run("x = 1")
    assert (failure["type"], failure["message"]) == (
        "KeyboardInterrupt",
        "it was interrupted before it began",
    )
    assert "x" not in ends.runner.workspace.names
    assert ends.run("x = 1", 2) >= 0


def test_an_interrupt_at_the_time_limit_is_called_by_its_reason(ends: Ends) -> None:
    ends.page.expire(1)
    failure = ends.run("x = 1", seconds=2.5)
    assert (failure["type"], failure["bases"]) == ("TimeoutError", ["TimeoutError"])
    assert failure["message"] == "the time limit of 2.5 s passed"
    ends.page.expire(2)
    ends.page.interrupt_one(0)
    assert ends.run("1 / 0", 2, seconds=2.5)["type"] == "ZeroDivisionError"


def test_an_interrupted_command_without_a_limit_ends_also_if_its_number_was_used_before(ends: Ends) -> None:
    ends.page.expire(7)
    assert ends.run("x = 1", 7)["type"] == "KeyboardInterrupt"


def test_the_end_tells_how_much_was_printed(ends: Ends) -> None:
    ends.print()
    assert ends.run("x = 1") >= 0


def test_a_value_that_cannot_be_sent_passes_by_pickle_if_it_may(ends: Ends) -> None:
    failure = ends.run("object()", value=True)
    assert failure["type"] == "UnsupportedValueError"
    assert "allow_pickle=True" in failure["message"]
    assert ends.run("object()", 2, value=True, pickle=True) >= 0
    assert ends.value(2)[0] is True


def test_a_function_comes_with_its_arguments(ends: Ends) -> None:
    for number in (3, 4):  # the first was cancelled before it began
        psend(pack_call(max, (1, number), {}, pickled=False), ends.client[1], tag=LIBRARY_TAGS + number)
    ends.runner.mesh.event_loop.poll(LIMIT)
    assert ends.run("max", 4, call=True, value=True) >= 0
    assert ends.value(4) == [False, 4]
    assert not [tag for tag in ends.runner.mesh.connections[0].inbox if tag >= LIBRARY_TAGS]


def test_a_service_does_not_look_at_the_user_s_names(ends: Ends) -> None:
    ends.run("globals = __import__ = None")
    psend(pack_arguments([{"a": 1}], pickled=False), ends.client[1], tag=LIBRARY_TAGS + 2)
    assert ends.run("workspace.update", 2, Kind.CALL) >= 0
    assert ends.runner.workspace.names["a"] == 1


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


class SteppedPage(CommandPage):
    """The engine's page. Before each of the engine's reads and writes, the other side may take a step."""

    before_step: Callable[[], object] = staticmethod(lambda: None)

    def _load(self, name: str) -> int:
        self.before_step()
        return super()._load(name)

    def _store(self, name: str, value: int) -> None:
        self.before_step()
        super()._store(name, value)


class Engine:
    """An engine that runs commands, and a supervisor whose steps happen when `choices` decides."""

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
        """Take the steps of `pserver.engine.command_runner`."""
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
    signal.raise_signal(signal.SIGINT)  # outside of commands, the signal has no effect
    engine.interrupts.in_command = True
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    engine.supervisor.interrupt_one(2)  # a signal for another command does not count as the user's own
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
