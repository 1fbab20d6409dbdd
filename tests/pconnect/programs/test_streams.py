"""The client's ends of streams: what waits, what is granted, and what a peer may not do."""

import io
import subprocess
import sys
import threading

import pytest

from pconnect.errors import ProtocolError
from pconnect.programs.streams import PIECE, WINDOW, CapturedOutput, GivenInput, ProgramInput, ProgramOutput
from tests.support.waiting import DEADLINE


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
    with pytest.raises(ProtocolError, match="more than CREDIT has allowed"):
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


def test_input_is_sent_as_far_as_it_was_granted() -> None:
    sent: list[bytes] = []
    stream = ProgramInput(sent.append)
    stream.grant(3)
    assert stream.write(b"abcde") == 3
    stream.grant(2 * PIECE)
    assert stream.write(bytes(2 * PIECE)) == PIECE
    stream.close()
    assert (sent[0], len(sent[1]), sent[2]) == (b"abc", PIECE, b"")
    with pytest.raises(ValueError, match="closed"):
        stream.write(b"x")


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
    """Else the system clears it anew, for each of these 100 pieces 257 pages, or for many of them."""
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
