import mmap
import os
import signal
import subprocess
import sys

from pserver.system.processes import address_space_bytes, resident_bytes
from tests.support.waiting import wait_gone

SIZE = 2**26


def test_memory_that_is_used_counts_as_resident() -> None:
    before = resident_bytes(os.getpid())
    used = bytearray(os.urandom(2**10) * (SIZE // 2**10))
    after = resident_bytes(os.getpid())
    assert before is not None
    assert after is not None
    assert SIZE * 0.9 < after - before < SIZE * 1.5
    assert len(used) == SIZE


def test_memory_that_is_reserved_counts_as_address_space() -> None:
    before = address_space_bytes()
    with mmap.mmap(-1, SIZE):
        assert SIZE <= address_space_bytes() - before < SIZE * 1.5


def test_a_process_that_has_ended_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert resident_bytes(process.pid) is None


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# A grandchild whose parent ends at once; it says who its parent is then.
GRANDCHILD = """
import os, sys, time
from pserver.system.processes import adopt_orphans, die_with_parent
reader, writer = os.pipe()
def start():
    if os.fork():
        os.wait()
        return
    between = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.001)
    os.write(writer, f"{os.getpid()} {os.getppid()}".encode())
    os._exit(7)
"""


def test_a_grandchild_whose_parent_ends_becomes_ours() -> None:
    script = f"""{GRANDCHILD}
adopt_orphans()
start()
pid, parent = map(int, os.read(reader, 100).split())
assert parent == os.getpid()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run(script) == "7\n"


def test_without_that_it_is_another_s() -> None:
    script = f"""{GRANDCHILD}
start()
pid, parent = map(int, os.read(reader, 100).split())
print(parent != os.getpid())
"""
    assert run(script) == "True\n"


def test_a_child_dies_with_its_parent_however_that_ends() -> None:
    script = r"""
import os, signal, time
from pserver.system.processes import die_with_parent
tied = os.fork()
if not tied:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    os.write(1, b"tied\n")  # one write, which no other process gets into
    time.sleep(1000)
free = os.fork()
if not free:
    os.write(1, b"free\n")
    time.sleep(1000)
os.write(1, b"%d %d\n" % (tied, free))
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        lines = sorted(parent.stdout.readline().strip() for _ in range(3))
        tied, free = map(int, lines[0].split())
        assert lines[1:] == ["free", "tied"]
        parent.kill()
        try:
            wait_gone(tied)
            os.kill(free, 0)  # it lives on
        finally:
            os.kill(free, signal.SIGKILL)
    wait_gone(free)
