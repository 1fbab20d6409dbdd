"""The trace of jobs, from a worker's messages to lines of the log; the last tests use a whole server."""

import functools
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import JobLostError, RemoteError
from pconnect.jobs.job import DROPPED, FAILED, PLAIN
from pserver.jobs.job_trace import JobLog, JobTrace
from tests.support.servers import run_server


class Strange:
    """An object of the user's code."""

    def __getattr__(self, name: str) -> str:
        raise RuntimeError(name)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def told(
    ends: tuple[socket.socket, socket.socket], contents: Any, *result: Any, **functions: Any
) -> dict[str, Any]:
    trace = JobTrace(ends[1], {1: functions.get("function")})
    trace.begin(contents)
    trace.end(5, result)
    words: dict[str, Any] = json.loads(ends[0].recv(10_000))
    return words


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.getcwd, "posix.getcwd"),
        (Path.cwd, "pathlib.Path.cwd"),
        (len, "len"),
        (functools.partial(len), "functools.partial"),
        (Strange(), "a function"),
        (["pickled"], "list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_function_has_its_name(
    function: object, name: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    words = told(ends, [1, (), {}, None], PLAIN, 42, 0.0, 1.5, function=function)
    assert words == {"job": 5, "what": name, "status": "done", "seconds": 1.5}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"status": 3, "timed_out": False}, "exit status 3"),
        ({"status": -9, "timed_out": False}, "SIGKILL"),
        ({"status": 127, "why": "there is no program x"}, "not started: there is no program x"),
    ],
)
def test_a_program_has_its_arguments_and_its_status(
    value: dict[str, Any], status: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    program = {"args": [b"echo", b"a b", b"\xff" * 1000]}
    words = told(ends, [0, (), {}, {"program": program}], PLAIN, value, 0.0, 0.1)
    assert words["what"].startswith("echo 'a b' ") and len(words["what"]) < 500
    assert words["status"] == status


def test_a_job_that_failed_has_its_error_and_one_that_was_dropped_none(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    assert told(ends, "unfinished", FAILED, {"type": "ValueError"}, 0.0, 0.1) == {
        "job": 5, "what": "a large job", "status": "failed: ValueError", "seconds": 0.1,
    }  # fmt: skip
    JobTrace(ends[1], {}).end(6, [DROPPED])
    with pytest.raises(BlockingIOError):
        ends[0].recv(100)


def test_a_supervisor_that_does_not_read_delays_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    trace = JobTrace(ends[1], {})
    for number in range(2000):
        trace.end(number, [PLAIN, None, 0.0, 0.1])
    ends[0].close()
    trace.end(1, [PLAIN, None, 0.0, 0.1])


@pytest.fixture
def watched() -> list[tuple[int, Callable[[], None]]]:
    return []


def test_lines_have_who_what_how_and_how_long(
    caplog: pytest.LogCaptureFixture, watched: list[tuple[int, Callable[[], None]]]
) -> None:
    caplog.set_level(logging.DEBUG, "pserver")
    log = JobLog("alice", 2, lambda *watch: watched.append(watch))
    [(descriptor, read)] = watched
    assert descriptor == log.fileno()
    theirs = socket.socket(fileno=os.dup(log.ends[0]))
    with theirs:
        trace = JobTrace(theirs, {1: len})
        trace.begin([1, (), {}, None])
        trace.end(7, [PLAIN, 3, 0.0, 0.25])
        endless = [
            b'{"job": 6, "what": "", "status": "", "seconds": %s}' % each
            for each in (b"NaN", b"Infinity", b"1e999")
        ]
        for nonsense in (b"", b"\xff", b"[]", b'{"job": "x"}', b"1" * 5000, b"[" * 8000, *endless):
            theirs.send(nonsense)
        read()
        trace.end(8, [PLAIN, 3, 0.0, 12.34])
        log.lost(9, "SIGKILL", 1.0)
        log.lost(0, "SIGKILL", 1.0)
        log.close()
        log.close()
    who = f'user="alice" session={os.getpid()} node=2'
    assert caplog.messages == [
        f'job 7 {who} what="len" status="done" seconds=0.250',
        f'job 8 {who} what="a large job" status="done" seconds=12.3',
        f'job 9 {who} status="its worker ended: SIGKILL" seconds=1.000',
    ]
    assert vars(caplog.records[0])["fields"]["event"] == "job"


def test_without_a_trace_nothing_is_open(
    caplog: pytest.LogCaptureFixture, watched: list[tuple[int, Callable[[], None]]]
) -> None:
    caplog.set_level(logging.INFO, "pserver")
    log = JobLog("alice", 2, lambda *watch: watched.append(watch))
    log.lost(9, "SIGKILL", 1.0)
    log.close()
    assert (log.fileno(), log.ends, watched) == (-1, [], [])


@pytest.mark.slow
@pytest.mark.parametrize("is_on", [True, False])
def test_a_server_writes_each_job_with_user_command_status_and_seconds(
    tmp_path: Path, *, is_on: bool
) -> None:
    options = ["-d", "--log-format=json"] if is_on else ["--log-format=json"]
    with run_server(tmp_path / "server", *options) as server:
        with server.connect() as net:
            assert net[1].submit(pow, 2, 5).result() == 32
            with pytest.raises(RemoteError):
                net[1].submit(int, "x").result()
            assert net[1].run(["sh", "-c", "exit 3"]).returncode == 3
            with pytest.raises(JobLostError):
                net[1].submit(os._exit, 7).result()
        server.wait_for_log("session-end")
        entries = [json.loads(line) for line in server.log.splitlines()]
    jobs = [entry for entry in entries if entry.get("event") == "job"]
    ends = [(job["level"], job["user"], job.get("what"), job["status"]) for job in jobs]
    assert ends == (
        [
            ("debug", "alice", "pow", "done"),
            ("debug", "alice", "int", "failed: ValueError"),
            ("debug", "alice", "sh -c 'exit 3'", "exit status 3"),
            ("debug", "alice", None, "its worker ended: exit status 7"),
        ]
        if is_on
        else []
    )
    assert all(job["seconds"] >= 0 and job["session"] > 0 for job in jobs)
    assert entries[-1]["message"] and {"time", "level"} <= entries[-1].keys()
