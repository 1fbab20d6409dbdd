"""Functions for use in jobs, and their behaviour elsewhere."""

from fractions import Fraction
from pathlib import Path

import pytest

from pconnect import UnsupportedValueError
from pconnect.jobs.worker_api import job_number, progress
from pconnect.views.network_views import ClientNetwork

LIMIT = 20.0


def test_outside_of_jobs_these_functions_do_nothing() -> None:
    progress(object())
    assert job_number() == 0


def test_a_job_knows_its_number(jobs_network: ClientNetwork) -> None:
    jobs = [jobs_network.submit(job_number) for _ in range(5)]
    assert [job.result(LIMIT) for job in jobs] == [job.number for job in jobs]


@pytest.mark.parametrize("value", [0.25, "half", [1, {"a": 2}], Fraction(1, 3), None])
def test_any_value_can_be_progress(jobs_network: ClientNetwork, value: object) -> None:
    job = jobs_network.submit(progress, value)
    told: list[object] = []
    job.add_progress_callback(lambda job: told.append(job.progress))
    job.result(LIMIT)
    assert job.progress == value


def test_a_value_of_a_registered_type_can_be_progress(jobs_network: ClientNetwork) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    job = jobs_network.submit(progress, sparse.eye_array(3))
    job.result(LIMIT)
    assert job.progress.shape == (3, 3)


def test_an_invalid_report_raises_in_the_job_which_may_continue(jobs_network: ClientNetwork) -> None:
    def work() -> str:
        try:
            progress(object())
        except UnsupportedValueError as error:
            return str(error)
        return ""

    job = jobs_network.submit(work)
    assert "cannot send <class 'object'>" in job.result(LIMIT)
    assert job.progress is None


def test_threads_of_a_job_report_whole_messages(jobs_network: ClientNetwork, tmp_path: Path) -> None:
    listening = tmp_path / "listening"

    def work() -> int:
        import threading
        import time

        begin = time.monotonic()
        while not listening.exists() and time.monotonic() - begin < LIMIT:
            time.sleep(0.01)

        def tell(mark: int) -> None:
            for _ in range(50):
                progress([mark] * 100)

        threads = [threading.Thread(target=tell, args=(mark,)) for mark in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 5

    job = jobs_network.submit(work)
    told: list[list[int]] = []
    job.add_progress_callback(lambda job: told.append(job.progress))
    listening.touch()
    assert job.result(LIMIT) == 5
    assert told and all(len(value) == 100 and len(set(value)) == 1 for value in told)
