"""The page shared by engine and supervisor, and the count of bytes written to the engine's output streams."""

import fcntl
import os
import threading
from collections.abc import Iterator

import pytest

from pserver.engine import command_page
from pserver.engine.command_page import CommandPage, GivenOutput, Mark, make_memory


@pytest.fixture
def ends() -> Iterator[tuple[CommandPage, CommandPage]]:
    """Yield the page on the engine's side and on the supervisor's."""
    memory = make_memory()
    pages = CommandPage(memory), CommandPage(memory)
    os.close(memory)
    yield pages
    for page in pages:
        page.close()


def test_the_supervisor_sees_which_command_runs(ends: tuple[CommandPage, CommandPage]) -> None:
    engine, supervisor = ends
    assert (supervisor.running, supervisor.begun, supervisor.limit()) == (0, 0, (0, 0.0))
    engine.begin(3, 60.0)
    number, deadline = supervisor.limit()
    assert (supervisor.running, supervisor.begun, number) == (3, 3, 3)
    assert deadline > 60.0
    engine.end()
    assert (supervisor.running, supervisor.begun, supervisor.limit()[0]) == (0, 3, 0)
    engine.begin(4)
    assert supervisor.limit() == (0, 0.0)


def test_the_engine_sees_what_is_to_be_stopped(ends: tuple[CommandPage, CommandPage]) -> None:
    engine, supervisor = ends
    supervisor.interrupt(5)
    supervisor.interrupt(3)  # it arrived late
    supervisor.interrupt_one(8)
    assert [number for number in range(1, 10) if engine.stops(number)] == [1, 2, 3, 4, 5, 8]
    assert engine.signals == 3
    supervisor.expire(9)
    assert [number for number in range(1, 10) if engine.has_expired(number)] == [9]
    assert engine.stops(9)
    supervisor.count_cancel()
    supervisor.stop_all()
    assert (engine.cancels, engine.is_closing) == (1, True)


def test_commands_that_print_nothing_leave_no_marks(ends: tuple[CommandPage, CommandPage]) -> None:
    engine, supervisor = ends
    for number in range(1, 1000):
        engine.mark(number, (0, 0))
        engine.mark(0, (0, 0))
    engine.mark(1000, (0, 0))
    engine.mark(0, (4, 0))
    assert list(supervisor.marks()) == [Mark(1000, (0, 0)), Mark(0, (4, 0))]
    engine.mark(1001, (4, 0))
    assert list(supervisor.marks()) == [Mark(1001, (4, 0))]


def test_marks_go_round(ends: tuple[CommandPage, CommandPage]) -> None:
    engine, supervisor = ends
    seen: list[Mark] = []
    for number in range(1, 5000):
        engine.mark(number, (number, 2 * number))
        if number % 700 == 0:
            seen += [mark for mark in supervisor.marks() if mark.command > len(seen)]
    seen += [mark for mark in supervisor.marks() if mark.command > len(seen)]
    assert seen == [Mark(number, (number, 2 * number)) for number in range(1, 5000)]


def test_an_engine_waits_for_room_and_not_for_ever(
    ends: tuple[CommandPage, CommandPage], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, supervisor = ends
    monkeypatch.setattr(command_page, "_FULL_SECONDS", 0.05)
    for number in range(1, 2000):
        if number == 1500:
            break
        monkeypatch.setattr(command_page, "_FULL_SECONDS", 0.05 if number < 1370 else 0.0)
        engine.mark(number, (number, 0))
    marks = list(supervisor.marks())
    assert [mark.command for mark in marks] == list(range(1, len(marks) + 1))
    engine.mark(2000, (2000, 0))
    assert list(supervisor.marks())[-1] == Mark(2000, (2000, 0))


def test_what_is_in_the_pipe_and_what_was_taken_is_given(ends: tuple[CommandPage, CommandPage]) -> None:
    """While a supervisor reads all the time, the count is never too low or too high."""
    engine, supervisor = ends
    pipes = [os.pipe() for _ in range(2)]
    given = GivenOutput(engine, [writer for _, writer in pipes])
    stop = threading.Event()

    def read() -> None:
        reader = pipes[0][0]
        while not stop.is_set():
            supervisor.begin_read()
            try:
                data = os.read(reader, 100)
            except BlockingIOError:
                data = b""
            supervisor.end_read(1, len(data))

    fcntl.fcntl(pipes[0][0], fcntl.F_SETFL, os.O_NONBLOCK)
    thread = threading.Thread(target=read)
    thread.start()
    try:
        printed = 0
        for size in range(1, 300):
            printed += os.write(pipes[0][1], b"x" * size)
            assert given.count() == (printed, 0)
        os.write(pipes[1][1], b"error")
        assert given.count() == (printed, 5)
    finally:
        stop.set()
        thread.join()
        for pipe in pipes:
            for descriptor in pipe:
                os.close(descriptor)


def test_a_supervisor_that_waits_for_a_processor_in_the_middle_is_waited_for(
    ends: tuple[CommandPage, CommandPage],
) -> None:
    engine, supervisor = ends
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    supervisor.begin_read()
    os.read(reader, 2)
    timer = threading.Timer(0.2, supervisor.end_read, (1, 2))
    timer.start()
    assert GivenOutput(engine, [writer, writer]).count()[0] == 3
    timer.join()
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_a_supervisor_that_is_stopped_in_the_middle_holds_up_no_engine(
    ends: tuple[CommandPage, CommandPage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pserver.engine.command_page._LONGEST_READ", 0.1)
    engine, supervisor = ends
    pipes = [os.pipe() for _ in range(2)]
    os.write(pipes[0][1], b"abc")
    supervisor.begin_read()
    os.read(pipes[0][0], 2)
    assert GivenOutput(engine, [writer for _, writer in pipes]).count() == (1, 0)
    supervisor.end_read(1, 2)
    assert GivenOutput(engine, [writer for _, writer in pipes]).count() == (3, 0)
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)


def test_commands_and_bytes_are_counted(ends: tuple[CommandPage, CommandPage]) -> None:
    engine, supervisor = ends
    assert (supervisor.commands, supervisor.traffic) == (0, (0, 0))
    for number in (4, 9):
        engine.begin(number)
        engine.end()
    engine.count_bytes(2**40, 7)
    assert (supervisor.commands, supervisor.traffic) == (2, (2**40, 7))
    engine.mark(9, (3, 4))
    engine.count_bytes(2**50, 2**51)
    assert list(supervisor.marks()) == [Mark(9, (3, 4))]
    assert supervisor.traffic == (2**50, 2**51)
