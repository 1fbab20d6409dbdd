"""A worker: what a job can do there, and what is told of it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from pconnect import local_network
from pconnect.views import ClientNetwork

LIMIT = 20.0


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1, slots=1) as made:
        yield made


def test_what_a_job_prints_is_its_own(net: ClientNetwork) -> None:
    def talk() -> None:
        print("from Python")
        os.write(1, b"from the system\n")
        subprocess.run(["echo", "from a program"], check=True)
        print("trouble", file=sys.stderr)

    for _ in range(2):
        job = net.submit(talk)
        job.result(LIMIT)
        assert job.stdout == "from Python\nfrom the system\nfrom a program\n"
        assert job.stderr == "trouble\n"
    quiet = net.submit(abs, -1)
    assert (quiet.result(LIMIT), quiet.stdout) == (1, "")


def test_the_last_of_much_output_is_kept(net: ClientNetwork) -> None:
    job = net.submit(lambda: print("x" * 3_000_000))
    job.result(LIMIT)
    note, _, text = job.stdout.partition("\n")
    assert note == f"({3_000_001 - 2**20} bytes before this are left out)"
    assert text == "x" * (2**20 - 1) + "\n"


def test_exit_is_the_failure_of_the_job_and_not_of_its_worker(net: ClientNetwork) -> None:
    worker = net.submit(os.getpid).result(LIMIT)
    job = net.submit(sys.exit, 3)
    assert getattr(job.exception(LIMIT), "type_name", None) == "SystemExit"
    assert net.submit(os.getpid).result(LIMIT) == worker


def test_memory_has_a_limit_and_only_for_that_job(net: ClientNetwork) -> None:
    with pytest.raises(MemoryError):
        net.executor(memory_limit=2**26).submit("lambda: len(bytearray(2**28))").result(LIMIT)
    assert net.submit("lambda: len(bytearray(2**28))").result(LIMIT) == 2**28


def test_a_job_has_no_connections_and_says_so(net: ClientNetwork) -> None:
    with pytest.raises(Exception, match="a job has no connections to other nodes"):
        net.submit("lambda: psend(1, sockets[0])").result(LIMIT)


def test_workers_do_not_draw_the_same_numbers(net: ClientNetwork) -> None:
    net.eval("np.random.seed(1)").result(LIMIT)
    first = net.submit("lambda: np.random.random(3)").result(LIMIT)
    net.eval("None").result(LIMIT)  # the next job needs another worker
    second = net.submit("lambda: np.random.random(3)").result(LIMIT)
    assert not np.array_equal(first, second)
