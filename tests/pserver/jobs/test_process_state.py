"""The state of a process is kept and restored; `tests.integration.test_traces_of_jobs` tests each kind of state."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys, tempfile
from pserver.jobs.process_state import ProcessState
home = tempfile.mkdtemp()
os.chdir(home)
os.environ["A"] = "1"
state = ProcessState()
{change}
try:
    state.restore()
except RuntimeError as error:
    print(error)
print(os.environ.get("A"), os.path.basename(os.getcwd()) == os.path.basename(home))
"""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("", ["1 True"]),
        ("os.chdir('/'); del os.environ['A']", ["1 True"]),
        ("os.rename(home, home + '2'); os.chdir('/'); home += '2'", ["1 True"]),
        (
            "sys.path = type('', (list,), {'__ne__': lambda *_: 1 / 0})()",
            ["cannot restore sys.path: division by zero", "1 True"],
        ),
        ("os.closerange(3, 100); os.chdir('/')", ["cannot restore the current folder: ", "1 False"]),
    ],
)
def test_all_is_restored_or_the_reason_said(change: str, expected: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(change=change)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(begin) for line, begin in zip(lines, expected, strict=True))
