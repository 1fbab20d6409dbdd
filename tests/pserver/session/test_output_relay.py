"""The way of output from two pipes to a client that reads, or does not."""

import itertools
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection as PipeEnd
from typing import Any

import pytest

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind, Role
from pserver.engine.command_page import CommandPage, GivenOutput, make_memory
from pserver.session.output_relay import Flow, OutputRelay
from tests.support.links import channels

MIB = 2**20
LIMIT = 20.0
# The most that the system and `OutputRelay` hold between an engine and a client that does not read.
HELD = 3 * MIB


class Ends:
    """An `OutputRelay` with both its ends in this process."""

    def __init__(self) -> None:
        near, far = channels()
        self.event_loop, self.client_progress = EventLoop(), EventLoop()
        self.near = Connection(1, "client", near, role=Role.SUPERVISOR)
        self.far = Connection(1, "hostB", far, role=Role.CLIENT)
        self.event_loop.add(self.near)
        self.client_progress.add(self.far)
        self.heard: list[tuple[int, Any]] = []
        self.far.on_message = lambda message: self.heard.append((message.tag, message.value))
        pipes = [multiprocessing.Pipe(duplex=False) for _ in range(2)]
        self.writers: list[PipeEnd] = [writer for _, writer in pipes]
        for writer in self.writers:
            os.set_blocking(writer.fileno(), False)
        memory = make_memory()
        self.page = CommandPage(memory)
        os.close(memory)
        self.given = GivenOutput(self.page, [writer.fileno() for writer in self.writers])
        self.output = OutputRelay(self.event_loop, self.near, [reader for reader, _ in pipes], self.page)

    @property
    def waits(self) -> bool:
        return self.output._flow is Flow.WAITING

    def begin(self, command: int) -> None:
        """Act as an engine that begins a command; 0: that ends one."""
        self.page.mark(command, self.given.count())

    def print(self, data: bytes, stream: int = 1) -> int:
        """Print as much as the pipe accepts; return the number of bytes."""
        try:
            return os.write(self.writers[stream - 1].fileno(), data)
        except BlockingIOError:
            return 0

    def turn(self) -> None:
        self.event_loop.poll(min(0.05, self.output.tend()))

    def take(self) -> None:
        """Act as a client that is inside a library call for a moment."""
        self.client_progress.poll(0.01)

    def fill(self) -> int:
        """Print until the relay takes nothing for a quarter of a second; return the number of bytes."""
        total, moved = 0, time.monotonic()
        while time.monotonic() - moved < 0.25:
            if count := self.print(b"x" * 2**15):
                total, moved = total + count, time.monotonic()
            self.turn()
        return total

    def received(self, stream: int = 1) -> tuple[int, int]:
        """Return the number of bytes received, and of bytes reported as dropped."""
        values = [value for tag, value in self.heard if tag == stream]
        return sum(len(data) for _, data, _ in values), sum(dropped for _, _, dropped in values)


@pytest.fixture
def ends() -> Iterator[Ends]:
    with ExitStack() as stack:
        made = Ends()
        stack.callback(made.client_progress.close)
        stack.callback(made.event_loop.close)
        for writer in made.writers:
            stack.callback(writer.close)
        stack.callback(made.page.close)
        stack.callback(made.output.close)
        yield made


def test_what_is_printed_is_counted_to_the_command_that_runs(ends: Ends) -> None:
    for command, stream in ((0, 1), (7, 1), (8, 2)):
        ends.begin(command)
        ends.print(b"text", stream)
        ends.begin(0)
        ends.print(b"after", stream)
    ends.output.drain()
    ends.take()
    assert ends.heard == [
        (1, [0, b"text", 0]), (1, [0, b"after", 0]), (1, [7, b"text", 0]), (1, [0, b"after", 0]),
        (2, [8, b"text", 0]), (2, [0, b"after", 0]),
    ]  # fmt: skip


def test_a_child_that_prints_for_ever_does_not_hold_up_the_end(ends: Ends) -> None:
    ends.begin(1)
    os.set_blocking(ends.writers[0].fileno(), True)
    with subprocess.Popen(["yes"], stdout=ends.writers[0].fileno()) as child:
        for _ in range(10):
            ends.output.end()
            ends.take()
        child.kill()


def test_a_client_that_takes_is_waited_for_and_gets_all(ends: Ends) -> None:
    ends.begin(1)
    taken = ends.fill()
    assert MIB < taken < HELD
    assert ends.waits
    deadline = time.monotonic() + LIMIT
    printed = taken
    # The client does other work now and then, for less than a second.
    pause = itertools.cycle([0.3, 0.0, 0.0, 0.0])
    while printed < 8 * MIB:
        printed += ends.print(b"x" * 2**15)
        ends.turn()
        ends.take()
        until = time.monotonic() + (next(pause) if ends.waits else 0.0)
        while time.monotonic() < until:
            ends.turn()
        assert time.monotonic() < deadline
    ends.output.end()
    while ends.received()[0] < printed:
        ends.turn()
        ends.take()
        assert time.monotonic() < deadline
    assert ends.received() == (printed, 0)


@pytest.mark.slow
def test_a_client_that_says_it_takes_is_waited_for_though_the_system_accepts_nothing(ends: Ends) -> None:
    ends.fill()
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        ends.output.acknowledge()
        ends.turn()
        assert ends.waits
    while ends.waits:  # it sends nothing more
        ends.turn()
    assert time.monotonic() - until > 0.9


def test_what_is_in_the_pipes_comes_before_the_death_also_while_the_client_is_waited_for(ends: Ends) -> None:
    ends.begin(1)
    printed = ends.fill()
    assert ends.waits
    ends.output.end()
    ends.near.post(Kind.DIED, 1, 0.5)
    while not any(value == 0.5 for _, value in ends.heard):
        ends.take()
        ends.event_loop.flush(ends.near)
    assert ends.heard.pop() == (1, 0.5)
    assert ends.received() == (printed, 0)


def test_a_client_that_takes_nothing_is_not_waited_for_and_told_exactly(ends: Ends) -> None:
    ends.begin(1)
    printed = {1: ends.fill(), 2: 0}
    deadline = time.monotonic() + LIMIT
    while printed[1] < 30 * MIB or printed[2] < 10 * MIB:
        printed[1] += ends.print(b"x" * 2**15)
        printed[2] += ends.print(b"y" * 2**14, 2)
        ends.turn()
        assert time.monotonic() < deadline
    assert not ends.waits
    assert ends.near.unsent_bytes < 1.2 * MIB
    ends.output.end()
    ends.near.post(Kind.DIED, 1, 0.5)
    done: list[dict[int, tuple[int, int]]] = []
    ends.far.on_message = lambda message: (
        done.append({stream: ends.received(stream) for stream in (1, 2)})
        if message.kind is Kind.DIED
        else ends.heard.append((message.tag, message.value))
    )
    while not done:
        ends.take()
        ends.turn()
        assert time.monotonic() < deadline
    for stream, (came, dropped) in done[0].items():
        assert came + dropped == printed[stream]
        assert dropped > 5 * MIB
    ends.heard.clear()
    ends.begin(2)
    ends.print(b"again")
    while not ends.heard:
        ends.turn()
        ends.take()
    assert ends.heard == [(1, [2, b"again", 0])]


def test_what_is_dropped_is_counted_to_the_command_that_printed_it(ends: Ends) -> None:
    ends.begin(1)
    ends.fill()
    while ends.output._flow is not Flow.DROPPING:
        ends.turn()
    for command, size in ((2, 2**16), (0, 1), (3, 2**15)):
        ends.begin(command)
        printed = 0
        while printed < size:
            printed += ends.print(b"x" * min(2**14, size - printed))
            ends.turn()
    ends.begin(0)
    while ends.output._streams[0].waiting_bytes():
        ends.turn()
    while ends.output._flow is Flow.DROPPING:
        ends.take()
        ends.turn()
    while ends.near.has_unsent:
        ends.take()
        ends.turn()
    ends.take()
    dropped = {command: count for _, (command, _, count) in ends.heard if count}
    assert {command: dropped.get(command) for command in (2, 0, 3)} == {2: 2**16, 0: 1, 3: 2**15}


def test_many_commands_leave_no_more_than_one(ends: Ends) -> None:
    for command in range(1, 100):
        ends.begin(command)
        ends.print(b"x" * 2**16)
        ends.begin(0)
        ends.turn()
        if ends.waits:
            break
    assert ends.waits
    assert ends.near.unsent_bytes < 1.2 * MIB


def test_the_last_words_are_whole_lines_of_both_streams(ends: Ends) -> None:
    for number in range(1000):
        ends.print(f"line {number}\n".encode(), 1 + number % 2)
        ends.output.drain()
    lines = ends.output.last.splitlines()
    assert lines == [f"line {number}" for number in range(1000 - len(lines), 1000)]
    assert len(ends.output.last) <= 2048 < len(ends.output.last) + len("line 1000\n")
    ends.print("é".encode() * 3000)
    ends.output.drain()
    assert ends.output.last == "é" * 1024


def test_lines_are_not_cut_where_more_is_to_come(ends: Ends) -> None:
    lines = [f"{number:099}\n".encode() for number in range(600)]
    ends.print(b"".join(lines))
    while ends.received()[0] < 59_000:
        ends.turn()
        ends.take()
    ends.print(b"open")  # shows immediately
    while ends.received()[0] < 60_004:
        ends.turn()
        ends.take()
    pieces = [data for _, (_, data, _) in ends.heard]
    assert b"".join(pieces) == b"".join(lines) + b"open"
    assert len(pieces) > 2
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])


def test_streams_that_the_engine_has_closed(ends: Ends) -> None:
    ends.print(b"last")
    ends.writers[0].close()
    for _ in range(3):
        ends.turn()
    ends.take()
    assert ends.heard == [(1, [0, b"last", 0])]
    ends.output.end()
    ends.print(b"error", 2)
    ends.turn()
    ends.take()
    assert ends.heard[1:] == [(2, [0, b"error", 0])]
