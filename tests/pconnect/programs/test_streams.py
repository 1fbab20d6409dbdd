"""The client's ends of streams: blocking, grants, and misbehaving peers."""

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from pconnect.errors import ProtocolError
from pconnect.programs.streams import PIECE, WINDOW, CapturedOutput, GivenInput, ProgramInput, ProgramOutput
from tests.support.waiting import DEADLINE, wait_until


def test_output_is_read_in_order_and_granted_again() -> None:
    granted: list[int] = []
    output = ProgramOutput(granted.append)
    output.take(b"abc")
    output.take(b"de")
    buffer = bytearray(2)
    assert [output.readinto(buffer) for _ in range(3)] == [2, 1, 2]
    output.take(bytes(WINDOW // 2))
    output.take(b"")
    reader = io.BufferedReader(output)
    assert len(reader.read()) == WINDOW // 2
    assert sum(granted) >= WINDOW // 4
    assert output.readinto(buffer) == 0


def test_whoever_reads_waits_for_the_first_byte() -> None:
    output, read = ProgramOutput(lambda _: None), []
    thread = threading.Thread(target=lambda: read.append(output.read(10)))
    thread.start()
    output.take(b"now")
    thread.join(DEADLINE)
    assert read == [b"now"]


def test_more_than_was_granted_is_the_peers_error() -> None:
    output = ProgramOutput(lambda _: None)
    output.take(bytes(WINDOW))
    with pytest.raises(ProtocolError, match="more bytes than CREDIT has granted"):
        output.take(b"x")


def test_a_lost_job_is_an_error_behind_what_has_come() -> None:
    output = ProgramOutput(lambda _: None)
    output.take(b"x")
    output.fail(OSError("lost"))
    buffer = bytearray(5)
    assert output.readinto(buffer) == 1
    with pytest.raises(OSError, match="lost"):
        output.readinto(buffer)
    output = ProgramOutput(lambda _: None)
    output.take(b"")
    output.fail(OSError("lost"))
    assert output.readinto(buffer) == 0


def test_output_that_is_closed_is_said_so_once() -> None:
    granted: list[int] = []
    output = ProgramOutput(granted.append)
    output.close()
    output.close()
    output.take(b"late")
    assert granted == [0]
    with pytest.raises(ValueError, match="closed"):
        output.readinto(bytearray(1))
    output = ProgramOutput(granted.append)
    output.take(b"")
    output.close()
    assert granted == [0]


def test_nothing_is_read_at_once() -> None:
    assert ProgramOutput(lambda _: None).readinto(bytearray()) == 0


def test_input_is_sent_whole_as_it_is_granted() -> None:
    sent: list[bytes] = []
    stream = ProgramInput(sent.append)
    data = os.urandom(5 * PIECE + 7)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(stream.write, data)
        stream.grant(3)
        wait_until(lambda: sent == [data[:3]], "what was granted")
        assert not written.done()
        stream.grant(WINDOW)
        wait_until(lambda: sum(map(len, sent)) == 3 + WINDOW, "what was granted")
        assert not written.done()
        stream.grant(WINDOW)
        assert written.result(DEADLINE) == len(data)
    assert (b"".join(sent), max(map(len, sent))) == (data, PIECE)
    sent.clear()
    stream.close()
    assert sent == [b""]
    for late in (b"x", b""):
        with pytest.raises(ValueError, match="closed"):
            stream.write(late)


def test_nothing_is_sent_without_waiting() -> None:
    sent: list[bytes] = []
    stream = ProgramInput(sent.append)
    without_elements: Any = np.empty((0, 3))
    assert [stream.write(data) for data in (b"", without_elements)] == [0, 0]
    assert sent == []


def test_what_two_threads_write_is_not_mixed() -> None:
    sent: list[bytes] = []
    stream = ProgramInput(sent.append)
    with ThreadPoolExecutor(2) as pool:
        for number in range(2):
            pool.submit(stream.write, bytes([number]) * 1000)
        for _ in range(2000):
            stream.grant(1)
    assert b"".join(sent) in {b"\0" * 1000 + b"\1" * 1000, b"\1" * 1000 + b"\0" * 1000}


@pytest.mark.parametrize(
    ("end", "error", "told"),
    [
        (ProgramInput.close, ValueError, [b"abc", b""]),
        (lambda stream: stream.grant(0), BrokenPipeError, [b"abc"]),
    ],
    ids=["file", "program"],
)
def test_a_write_that_waits_ends_with_the_file_and_with_the_program(
    end: Callable[[ProgramInput], None], error: type[Exception], told: list[bytes]
) -> None:
    sent: list[bytes] = []
    stream = ProgramInput(sent.append)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(stream.write, b"abcde")
        stream.grant(3)
        wait_until(lambda: sent == [b"abc"], "what was granted")
        end(stream)
        with pytest.raises(error):
            written.result(DEADLINE)
    assert sent == told


def test_the_end_comes_behind_a_piece_that_is_just_being_sent() -> None:
    sent: list[bytes] = []
    is_sending, may_send = threading.Event(), threading.Event()

    def send(data: bytes) -> None:
        if data:
            is_sending.set()
            assert may_send.wait(DEADLINE)
        sent.append(data)

    stream = ProgramInput(send)
    stream.grant(3)
    with ThreadPoolExecutor(2) as pool:
        written = pool.submit(stream.write, b"abc")
        assert is_sending.wait(DEADLINE)
        closed = pool.submit(stream.close)
        wait_until(lambda: stream.closed, "the file to be closed")
        may_send.set()
        assert written.result(DEADLINE) == 3
        closed.result(DEADLINE)
    assert sent == [b"abc", b""]


def test_input_that_nobody_reads_is_a_broken_pipe() -> None:
    sent: list[bytes] = []
    stream = ProgramInput(sent.append)
    stream.grant(0)
    with pytest.raises(BrokenPipeError):
        stream.write(b"x")
    stream.close()
    assert sent == []


def test_the_end_of_input_waits_for_the_beginning_of_the_program() -> None:
    sent: list[bytes] = []
    stream = ProgramInput(sent.append)
    stream.close()
    assert sent == []
    stream.grant(WINDOW)
    stream.grant(1)
    assert sent == [b""]


def test_given_input_is_sent_whole_with_its_end() -> None:
    sent: list[bytes] = []
    stream = GivenInput(sent.append, b"abcde")
    for count in (2, 2, 2, 2):
        stream.grant(count)
    assert sent == [b"ab", b"cd", b"e", b""]
    sent.clear()
    stream = GivenInput(sent.append, b"abcde")
    stream.grant(0)
    stream.grant(9)
    assert sent == []


def test_captured_output_has_a_limit() -> None:
    granted: list[int] = []
    output = CapturedOutput(granted.append, 5)
    output.take(b"abc")
    output.take(b"def")
    output.take(b"g")
    assert (output.data(), output.is_too_much, granted) == (b"abc", True, [0])


def test_memory_of_pieces_is_used_for_the_next() -> None:
    """Otherwise the system would clear 257 pages for each of these 100 pieces, or for many of them."""
    script = """
import resource
from pconnect.programs.streams import PIECE, keep_freed_memory
keep_freed_memory()
begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(25):
    pieces = [b"x" * PIECE for _ in range(4)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2_000
