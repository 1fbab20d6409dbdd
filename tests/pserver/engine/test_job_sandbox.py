"""What is around a job: its output, and the limit of its memory."""

import subprocess
import sys

_PRINT = """
import os, sys, tempfile
from pserver.engine.job_sandbox import take_output
files = [tempfile.TemporaryFile() for _ in range(2)]
told = os.dup(1)
for descriptor, file in zip((1, 2), files):
    os.dup2(file.fileno(), descriptor)
before = take_output()
print("x" * (2**20 + 5), end="")
print("err", end="", file=sys.stderr)
out, left_out, err, err_left_out = take_output()
facts = [before, len(out), left_out, err, err_left_out, take_output()]
os.dup2(told, 1)
print(facts)
"""

_LIMIT = """
from pserver.engine.job_sandbox import memory_limit
with memory_limit(None):
    bytearray(2**26)
with memory_limit(2**24):
    try:
        bytearray(2**28)
    except MemoryError:
        print("refused")
bytearray(2**28)
"""


def run(script: str) -> str:
    """Run a script in a process of its own, for it changes what belongs to the process."""
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_the_end_of_what_is_printed_is_taken_once() -> None:
    assert run(_PRINT) == f"[None, {2**20}, 5, b'err', 0, None]"


def test_memory_is_limited_for_a_while() -> None:
    assert run(_LIMIT) == "refused"
