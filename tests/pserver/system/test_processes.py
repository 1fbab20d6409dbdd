import mmap
import os
import subprocess
import sys

from pserver.system.processes import address_space_bytes, resident_bytes

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
