"""What ties the lives of processes together."""

import subprocess
import sys

ADOPTS = """
import os, time
from pserver.process_ties import adopt_orphans
adopt_orphans()
between = os.fork()
if not between:
    if not os.fork():
        time.sleep(0.1)
        os._exit(7)
    os._exit(0)
os.waitpid(between, 0)
print(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]))
"""

DIES = """
import os, signal, time
from pserver.process_ties import adopt_orphans, die_with_parent
adopt_orphans()
reader, writer = os.pipe()
between = os.fork()
if not between:
    child = os.fork()
    if not child:
        die_with_parent()
        os.write(writer, b"ready")
        time.sleep(60)
    time.sleep(60)
os.read(reader, 5)
os.kill(between, signal.SIGKILL)
os.waitpid(between, 0)
print(os.waitstatus_to_exitcode(os.waitpid(-1, 0)[1]))
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


def test_an_orphan_becomes_ours() -> None:
    assert run(ADOPTS) == "7"


def test_a_child_dies_with_its_parent() -> None:
    assert run(DIES) == "-9"
