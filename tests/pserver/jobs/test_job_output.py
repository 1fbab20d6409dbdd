"""A job's output is taken once, and the streams are ready for the next job."""

import subprocess
import sys

_PRINT = """
import os, sys, tempfile
from pserver.jobs.job_output import JobOutput
files = [tempfile.TemporaryFile() for _ in range(2)]
told = os.dup(1)
for descriptor, file in zip((1, 2), files):
    os.dup2(file.fileno(), descriptor)
output = JobOutput()
before = output.take()
print("x" * (2**20 + 5), end="")
print("err", end="", file=sys.stderr)
out, left_out, err, err_left_out = output.take()
facts = [before, len(out), left_out, err, err_left_out, output.take()]
os.dup2(told, 1)
print(facts)
"""

_SPOILED = """
import fcntl, os, tempfile
from pserver.jobs.job_output import JobOutput
told = os.dup(1)
files = [tempfile.TemporaryFile() for _ in range(2)]
for descriptor, file in zip((1, 2), files):
    fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
    os.dup2(file.fileno(), descriptor)
output = JobOutput()
os.write(1, b"before")
os.close(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
os.write(2, b"elsewhere")
facts = [output.take()]
os.write(1, b"out")
os.write(2, b"err")
facts.append(output.take())
os.dup2(told, 1)
print(facts)
"""


def run_script(script: str) -> str:
    """Run a script in its own process, because it changes the state of the process."""
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_the_end_of_what_is_printed_is_taken_once() -> None:
    assert run_script(_PRINT) == f"[None, {2**20}, 5, b'err', 0, None]"


def test_streams_that_a_job_has_closed_are_there_for_the_next_one() -> None:
    assert run_script(_SPOILED) == "[[b'before', 0, b'', 0], [b'out', 0, b'err', 0]]"
