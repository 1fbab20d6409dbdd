"""Valid and invalid programs."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import local_network
from pconnect.errors import ConfigurationError
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobCancelledError, JobOptions
from pconnect.programs import program as module
from pconnect.programs.program import prepare
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import run_server
from tests.support.waiting import DEADLINE


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1) as made:
        yield made


@pytest.mark.parametrize(
    ("words", "options", "text"),
    [
        ([], {}, "give a program and its arguments as a list"),
        (["a\0b"], {}, "NUL"),
        ([5], {}, "5 is not a string, bytes or a path"),
        ([""], {}, "the name of the program is empty"),
        (["true"], {"cwd": "relative"}, "give an absolute path"),
        (["true"], {"env": {"A": 5}}, "5 is not a string"),
    ],
)
def test_what_makes_no_program(net: ClientNetwork, words: Any, options: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        net[1].run(words, **options)


def test_more_output_than_is_kept_is_an_error(net: ClientNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CAPTURED_BYTES", 10_000)
    with pytest.raises(
        ConfigurationError, match=r"yes on node 1 .* was ended because it wrote more than 10000 bytes"
    ):
        net[1].run(["yes"], cwd="/")
    assert net[1].run(["true"], cwd="/").returncode == 0


def test_a_network_with_one_is_not_detached(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with run_server(tmp_path / "server", users=users) as server, server.connect() as net:
        program = net.popen(["cat"], cwd="/")
        with pytest.raises(
            ConfigurationError, match=r"job \d+ cat.* cannot be detached, because its streams end here"
        ):
            net.detach(timeout=DEADLINE)
        program.stdin.close()
        assert (program.stdout.read(), program.wait(DEADLINE)) == (b"", 0)


def test_one_that_is_cancelled_in_the_queue_leaves_nobody_waiting(net: ClientNetwork) -> None:
    running = [net.popen(["cat"], cwd="/") for _ in range(net.executor().count_slots())]
    waiting = net.popen(["cat"], cwd="/")
    assert waiting.job.cancel()
    with pytest.raises(JobCancelledError, match="cat was cancelled before it ran"):
        waiting.stdout.read()
    with pytest.raises(BrokenPipeError):
        waiting.stdin.write(b"x")
    for program in running:
        with program:
            program.stdin.close()


def test_all_that_is_written_arrives(net: ClientNetwork) -> None:
    data = os.urandom(10_000_000)
    with net.popen(["sha256sum"], cwd="/", time_limit=DEADLINE) as program:
        assert program.stdin.write(data) == len(data)
        program.stdin.close()
        assert program.stdout.read().split()[0].decode() == hashlib.sha256(data).hexdigest()
    with net.popen(["sha256sum"], cwd="/", time_limit=DEADLINE) as program:
        shutil.copyfileobj(io.BytesIO(data), program.stdin, 2**23)
        program.stdin.close()
        assert program.stdout.read().split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_it_says_what_it_is(net: ClientNetwork) -> None:
    with net.popen(["cat"], cwd="/") as program:
        assert program.poll() is None
        assert repr(program).startswith("<program cat, <job ")
        program.stdin.close()
        assert program.wait(DEADLINE) == program.poll() == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"nice": 20}, "nice=20: give a number from 0 to 19"),
        ({"nice": -1}, "nice=-1: give a number from 0 to 19"),
        ({"files": {"a": (0, b"")}}, "for programs that run in a private folder"),
        ({"outputs": []}, "for programs that run in a private folder"),
        ({"folder": True, "files": {"../a": (0, b"")}}, "'../a' is not the name of a file inside"),
    ],
)
def test_what_makes_no_private_folder(net: ClientNetwork, options: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        prepare(scheduler_of(mesh_of(net)), ["true"], JobOptions(), 2**20, **options)
