"""The output shown for jobs, from parts sent while they run and from the last part."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pconnect import quiet
from pconnect.commands.console import Console
from pconnect.jobs.job import Job, JobOptions
from pconnect.jobs.live_output import MAX_SHOWN_BYTES, LiveOutput
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until
from tests.support.workers import Owner


def job(number: int, node: int = 1) -> Job:
    made = Job(number, "f(...)", [], JobOptions(), Owner())
    made.place = node, f"host{node}"
    return made


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return a function that returns all output so far: standard output, then standard error."""
    said = ["", ""]

    def read() -> str:
        for index, text in enumerate(capsys.readouterr()):
            said[index] += text
        return "".join(said)

    return read


def test_overlapping_parts_are_shown_once(shown: Callable[[], str]) -> None:
    live, first = LiveOutput(Console()), job(7)
    live.add(first, 1, 0, b"one\ntw", is_last=False)
    assert shown() == "[1 host1 job 7] one\n[1 host1 job 7] tw"
    live.add(first, 1, 6, b"o\n", is_last=False)
    live.add(first, 1, 0, b"one\ntwo\nthree", is_last=True)
    assert shown() == "[1 host1 job 7] one\n[1 host1 job 7] two\n[1 host1 job 7] three\n"
    live.add(first, 1, 0, b"again\n", is_last=True)  # as if the job was lost and ran again
    assert shown().endswith("three\n[1 host1 job 7] again\n")


def test_jobs_and_streams_do_not_share_lines(shown: Callable[[], str]) -> None:
    live = LiveOutput(Console())
    for number, stream in ((1, 1), (2, 1), (2, 2)):
        live.add(job(number), stream, 0, b"..", is_last=False)
    assert shown() == "[1 host1 job 1] ..\n[1 host1 job 2] ..\n[1 host1 job 2] .."


def test_output_is_limited_and_a_line_reports_the_rest(shown: Callable[[], str]) -> None:
    live, much = LiveOutput(Console()), b"x" * MAX_SHOWN_BYTES
    live.add(job(1), 1, 0, much + b"more", is_last=False)
    live.add(job(1), 1, 1000, much + b"again\n", is_last=True)
    end = "(1006 more bytes are not shown here: job.stdout has the last of them)\n"
    assert shown() == f"[1 host1 job 1] {much.decode()}\n[1 host1 job 1] {end}"


def test_nothing_is_shown_after_a_gap(shown: Callable[[], str]) -> None:
    live = LiveOutput(Console())
    live.add(job(1), 2, 0, b"begin\n", is_last=False)
    live.add(job(1), 2, 100, b"end\n", is_last=True)
    end = "(98 more bytes are not shown here: job.stderr has the last of them)\n"
    assert shown() == f"[1 host1 job 1] begin\n[1 host1 job 1] {end}"


def test_output_that_is_not_shown(shown: Callable[[], str]) -> None:
    live, silenced = LiveOutput(Console()), job(1)
    silenced.quiet = frozenset({1})
    live.add(silenced, 1, 0, b"x", is_last=True)
    live.add(job(2), 1, 0, b"", is_last=True)
    live.add(Job(3, "f(...)", [], JobOptions(), Owner()), 1, 0, b"x", is_last=True)  # this job was never sent
    assert shown() == ""


def test_control_sequences_are_made_visible(shown: Callable[[], str]) -> None:
    live = LiveOutput(Console())
    live.add(job(1), 1, 0, b"\x1b]0;title\x07", is_last=True)
    assert shown() == "[1 host1 job 1] \\x1b]0;title\\x07\n"


def test_threads_may_show_output_at_the_same_time(shown: Callable[[], str]) -> None:
    live = LiveOutput(Console())

    def add(number: int) -> None:
        for start in range(0, 2000, 4):
            live.add(job(number), 1, start, b"abc\n", is_last=False)

    threads = [threading.Thread(target=add, args=[number]) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sorted(set(shown().splitlines())) == [f"[1 host1 job {number}] abc" for number in range(1, 5)]
    assert len(shown().splitlines()) == 2000


# --- with real jobs ---


@pytest.fixture
def net(two_slots: Server) -> Any:
    with two_slots.connect(1) as network:
        yield network


def test_the_output_of_a_running_job_is_shown(net: ClientNetwork, shown: Callable[[], str]) -> None:
    source = "lambda: [print('step', k, flush=True) or __import__('time').sleep(0.3) for k in range(1000)]"
    running = net.submit(source)
    wait_until(lambda: "step 2\n" in shown(), "the third step to be shown")
    assert running.state == "running"
    running.cancel()
    running.exception(DEADLINE)
    lines = shown().splitlines()
    assert lines == [f"[1 {running.host} job {running.number}] step {k}" for k in range(len(lines))]


def test_the_output_of_a_job_is_shown_before_its_result(net: ClientNetwork, shown: Callable[[], str]) -> None:
    for number in range(20):
        assert net.submit("lambda k: print('job', k) or k", number).result(DEADLINE) == number
        assert shown().count("\n") == number + 1
    assert list(net.map("lambda k: print('item', k)", range(3))) == [None] * 3
    assert shown().count("] item ") == 3
    with pytest.raises(ZeroDivisionError):
        net.submit("lambda: print('last words') or 1 / 0").result(DEADLINE)
    assert shown().endswith("] last words\n")


def test_quiet_silences_jobs_submitted_inside(net: ClientNetwork, shown: Callable[[], str]) -> None:
    with quiet(net):
        silent = net.submit("lambda: print('silent')")
    silent.result(DEADLINE)
    assert (silent.stdout, shown()) == ("silent\n", "")
    net.submit("lambda: print('heard')").result(DEADLINE)
    assert shown().endswith("] heard\n")
