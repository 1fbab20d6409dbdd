"""The buffers of standard output, in separate processes that exit without a final flush."""

import subprocess
import sys

import pytest

_BEGIN = """
import ctypes, os, sys
from pserver.system.flush import flush_output
libc = ctypes.CDLL(None)
"""


def output_of(script: str) -> tuple[str, str]:
    command = [sys.executable, "-c", f"{_BEGIN}{script}\nos._exit(0)"]
    env = {"PYTHONPATH": ":".join(sys.path)}  # without PYTHONUNBUFFERED, which also affects C's buffers
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=env)
    return done.stdout, done.stderr


def test_what_python_and_c_have_printed_is_out() -> None:
    script = """
print("python", end=" ")
flush_output()
libc.printf(b"C ")
flush_output()
print("error", end="", file=sys.stderr)
"""
    assert output_of(script + "flush_output()") == ("python C ", "error")
    assert output_of('libc.printf(b"C ")') == ("", "")  # the reason for `flush_output`


@pytest.mark.parametrize(
    "replace", ["sys.stdout = None", "sys.stdout.close()", "sys.stdout = 7", "os.close(1)", "libc.close(1)"]
)
def test_a_stream_that_is_no_more_is_passed_over(replace: str) -> None:
    assert output_of(f"{replace}\nflush_output()\nprint('here', file=sys.stderr)") == ("", "here\n")


def test_a_thread_that_reads_in_c_holds_up_nobody() -> None:
    script = """
import threading, time
reader, writer = os.pipe()
libc.fdopen.restype = ctypes.c_void_p
libc.fgets.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
stream = libc.fdopen(reader, b"r")
thread = threading.Thread(target=libc.fgets, args=(ctypes.create_string_buffer(10), 10, stream), daemon=True)
thread.start()
reads = ("0", "63")  # system call numbers on x86-64 and 64-bit ARM
deadline = time.monotonic() + 20
while open(f"/proc/self/task/{thread.native_id}/syscall").read().split()[0] not in reads:
    assert time.monotonic() < deadline
flush_output()
print("done", flush=True)
"""
    assert output_of(script) == ("done\n", "")
