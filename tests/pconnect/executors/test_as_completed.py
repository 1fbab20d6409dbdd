import concurrent.futures
import itertools
import time

import pytest

from pconnect import as_completed
from pconnect.views.network_views import ClientNetwork
from tests.pconnect.executors.test_executor import LIMIT
from tests.pconnect.loop.test_progress_bars import at_terminal
from tests.support.workers import two_workers


def test_jobs_are_yielded_in_the_order_in_which_they_end(jobs_network: ClientNetwork) -> None:
    two_workers(jobs_network)
    long, short = jobs_network.submit(time.sleep, 0.6), jobs_network.submit(abs, -1)
    failing = jobs_network.submit(divmod, 1, 0)
    assert list(as_completed([long, short, failing, short], LIMIT)) == [short, failing, long]
    assert list(as_completed([long, short], 0.0)) == [long, short]  # both had ended before
    assert list(as_completed([])) == []


def test_the_time_limit_covers_all_jobs() -> None:
    ended, waiting = concurrent.futures.Future[object](), concurrent.futures.Future[object]()
    ended.set_result(1)
    begin = time.monotonic()
    jobs = as_completed([waiting, ended], 0.3)
    assert next(jobs) is ended
    with pytest.raises(TimeoutError, match=r"timed out after 0.* s waiting for jobs: 1 of 2 have not ended"):
        next(jobs)
    assert 0.3 <= time.monotonic() - begin < LIMIT


def test_a_cancelled_job_has_ended(jobs_network: ClientNetwork) -> None:
    job = jobs_network.submit(time.sleep, LIMIT)
    job.cancel()
    assert list(as_completed([job], LIMIT)) == [job]


def test_a_progress_bar_does_not_disturb_output() -> None:
    jobs = [concurrent.futures.Future[object]() for _ in range(3)]
    with at_terminal() as terminal:
        results = as_completed(jobs)
        jobs[0].set_result(0)
        assert next(results) is jobs[0]
        jobs[1].set_result(1)
        time.sleep(0.2)
        assert next(results) is jobs[1]
        shown = terminal.getvalue()
        assert "/3 jobs" in shown or "/3 [" in shown
        # The next output of the program begins on an empty line.
        assert shown.endswith("\r") and shown.rstrip("\r").rpartition("\r")[2].strip() == ""
        jobs[2].cancel()
        assert list(itertools.islice(results, 5)) == [jobs[2]]
