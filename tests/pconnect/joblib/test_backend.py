import gc
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed

import pconnect
from pconnect import RemoteError
from pconnect.errors import ConfigurationError, JobLostError
from pconnect.joblib.backend import Backend
from pconnect.session import open_networks
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import bytes_to_workers, run_server
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[ClientNetwork]:
    """Provide a network of two nodes with three slots."""
    folder = tmp_path_factory.mktemp("slots")
    with run_server(folder, "--slots=3", users=users) as server, server.connect(2) as net:
        yield net


@pytest.fixture
def chosen(net: ClientNetwork) -> Iterator[ClientNetwork]:
    with joblib.parallel_config("pserver", network=net):
        yield net


class OddError(Exception):
    """An exception of the user that cannot be sent as a value."""


@pytest.mark.parametrize("return_as", ["list", "generator", "generator_unordered"])
@pytest.mark.parametrize("n_jobs", [None, -1, 1, 2, 7])
@pytest.mark.usefixtures("chosen")
def test_results(return_as: str, n_jobs: int | None) -> None:
    results = list(Parallel(n_jobs, return_as=return_as)(delayed(pow)(2, k) for k in range(50)))
    assert (sorted(results) if return_as == "generator_unordered" else results) == [2**k for k in range(50)]


@pytest.mark.usefixtures("chosen")
def test_tasks_run_in_workers_and_take_and_return_any_object() -> None:
    def task(odd: OddError) -> tuple[OddError, int]:
        return odd, os.getpid()

    results = Parallel()(delayed(task)(OddError(k)) for k in range(5))
    assert [odd.args for odd, _ in results] == [(k,) for k in range(5)]
    assert os.getpid() not in {pid for _, pid in results}


def test_effective_jobs(net: ClientNetwork) -> None:
    backend = Backend(net)
    assert [backend.effective_n_jobs(n) for n in (-1, None, 2, 100, -2, 1)] == [3, 3, 2, 3, 2, 1]
    # For joblib, 1 means "here"; a single remote slot is used nevertheless.
    assert backend.effective_n_jobs(-10) == 2
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


@pytest.mark.usefixtures("chosen")
def test_no_more_workers_than_asked_for(tmp_path: Path) -> None:
    def task(folder: Path) -> int:
        mark = folder / str(os.getpid())
        mark.touch()
        time.sleep(0.02)
        count = len(list(folder.iterdir()))
        mark.unlink()
        return count

    counts = Parallel(2, pre_dispatch="all", batch_size=1)(delayed(task)(tmp_path) for _ in range(30))
    assert max(counts) == 2


def test_parts_of_a_network_and_the_last_network(net: ClientNetwork) -> None:
    net["here"] = 0
    net[2]["here"] = 2
    tasks = [delayed(eval)("__import__('__main__').here") for _ in range(5)]
    with joblib.parallel_config("pserver", network=net[2]):
        assert Parallel()(tasks) == [2] * 5
    assert open_networks.all_open()[-1] is net.mesh
    with joblib.parallel_config("pserver"):
        assert set(Parallel()(tasks)) <= {0, 2}
    with pytest.raises(ConfigurationError, match="is not a network: give one that pconnect returned"):
        joblib.parallel_config("pserver", network="alpha")


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_networks, "_open", [])
    with (
        joblib.parallel_config("pserver"),
        pytest.raises(ConfigurationError, match="no network is open"),
    ):
        Parallel()([delayed(abs)(1)])


@pytest.mark.usefixtures("chosen")
def test_an_error_is_the_original_and_ends_the_call_immediately() -> None:
    def task(k: int) -> None:
        if k == 1:
            raise OddError("one")
        time.sleep(60)

    begin = time.monotonic()
    with pytest.raises(OddError, match="one") as caught:
        Parallel()(delayed(task)(k) for k in range(3))
    assert isinstance(caught.value.__cause__, RemoteError)
    assert 'raise OddError("one")' in caught.value.__cause__.remote_traceback
    assert Parallel()(delayed(pow)(2, k) for k in range(3)) == [1, 2, 4]
    assert time.monotonic() - begin < 30


def test_without_pickle_results_are_values(net: ClientNetwork) -> None:
    with joblib.parallel_config("pserver", network=net, allow_pickle=False):
        assert Parallel()(delayed(abs)(-k) for k in range(3)) == [0, 1, 2]
        with pytest.raises(RemoteError, match="allow_pickle=True"):
            Parallel()(delayed(OddError)(k) for k in range(3))


@pytest.mark.usefixtures("chosen")
def test_tasks_that_cannot_be_pickled() -> None:
    with pytest.raises(ConfigurationError, match="the tasks cannot be sent: TypeError"):
        Parallel()(delayed(id)(threading.Lock()) for _ in range(3))


@pytest.mark.usefixtures("chosen")
def test_a_time_limit_of_joblib_cancels() -> None:
    begin = time.monotonic()
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.2)(delayed(time.sleep)(60) for _ in range(5))
    assert Parallel()(delayed(abs)(-k) for k in range(3)) == [0, 1, 2]
    assert time.monotonic() - begin < 30


@pytest.mark.usefixtures("chosen")
def test_an_abandoned_generator_cancels() -> None:
    results = Parallel(return_as="generator")(delayed(time.sleep)(60 * (k > 0)) for k in range(5))
    assert next(results) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # joblib warns that there were more
        del results
        gc.collect()
    assert Parallel()(delayed(abs)(-k) for k in range(3)) == [0, 1, 2]


def test_a_worker_that_dies(net: ClientNetwork) -> None:
    with joblib.parallel_config("pserver", network=net), pytest.raises(JobLostError, match="exit"):
        Parallel()(delayed(lambda k: os._exit(k + 1))(k) for k in range(3))


def test_tasks_may_come_from_code_that_uses_the_network(chosen: ClientNetwork) -> None:
    tasks = (delayed(abs)(chosen.submit(pow, -2, 3).result(DEADLINE)) for _ in range(20))
    assert Parallel(2, batch_size=1)(tasks) == [8] * 20


@pytest.mark.usefixtures("chosen")
def test_nested_parallel_calls_use_threads() -> None:
    def task(k: int) -> tuple[str, list[int], bool]:
        backend, _ = joblib.parallel.get_active_backend()
        pids = Parallel(2)(delayed(os.getpid)() for _ in range(3))
        return type(backend).__name__, [k] * len(pids), set(pids) == {os.getpid()}

    assert Parallel()(delayed(task)(k) for k in range(3)) == [
        ("ThreadingBackend", [k] * 3, True) for k in range(3)
    ]


def test_threads_of_libraries(net: ClientNetwork) -> None:
    def threads() -> set[int]:
        import numpy  # noqa: F401
        import threadpoolctl

        return {library["num_threads"] for library in threadpoolctl.threadpool_info()}

    with joblib.parallel_config("pserver", network=net, inner_max_num_threads=2):
        assert Parallel()(delayed(threads)() for _ in range(2)) == [{2}] * 2


def first(array: np.ndarray, k: int) -> tuple[float, bool]:
    return float(array[k, 0]), bool(array.flags.writeable)


def call(array: np.ndarray, count: int, **options: Any) -> list[tuple[float, bool]]:
    results: list[tuple[float, bool]] = Parallel(batch_size=1, **options)(
        delayed(first)(array, k) for k in range(count)
    )
    return results


def test_large_arrays_are_sent_to_each_worker_once(chosen: ClientNetwork) -> None:
    array = np.random.default_rng(0).random((40, 2**15))  # 10 MiB
    Parallel(batch_size=1)(delayed(time.sleep)(0.1) for _ in range(9))  # starts all workers
    before = bytes_to_workers(chosen)
    for _ in range(2):
        assert call(array, 40) == [(float(array[k, 0]), False) for k in range(40)]
    assert bytes_to_workers(chosen) - before < 3.1 * array.nbytes
    array[3, 0] = -5.0
    assert call(array, 5)[3] == (-5.0, False)
    assert call(np.asfortranarray(array)[:, ::2], 5)[3] == (-5.0, False)


@pytest.mark.usefixtures("chosen")
def test_joblibs_option_decides_which_arrays_are_large() -> None:
    array = np.arange(20.0).reshape(10, 2)
    assert call(array, 2) == [(0.0, True), (2.0, True)]
    assert call(array, 2, max_nbytes=100) == [(0.0, False), (2.0, False)]
    large = np.zeros((2, 2**17))
    assert call(large, 2, max_nbytes=None) == [(0.0, True)] * 2


def test_workers_do_not_keep_all_large_arrays(chosen: ClientNetwork, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - the fixture
    monkeypatch.setattr("pconnect.scheduler.remote_worker._KEPT_BYTES", 2**22)

    def kept(_: object) -> int:
        from pconnect.remote_entry import shared_arrays

        return sum(array.nbytes for array in shared_arrays.values())

    for k in range(10):  # each call ends before the next, because a worker also keeps arrays of waiting tasks
        array = np.full(2**18, float(k))  # 2 MiB
        assert max(Parallel(batch_size=1)(delayed(kept)(array) for _ in range(3))) <= 2**22 + 2**21


def test_large_arrays_are_sent_again_to_a_new_worker(chosen: ClientNetwork, tmp_path: Path) -> None:
    array = np.full((40, 2**15), 7.0)
    assert call(array, 3) == [(7.0, False)] * 3

    def dies_once(array: np.ndarray, mark: Path) -> float:
        try:
            mark.unlink()
        except FileNotFoundError:
            return float(array.sum())
        os._exit(1)

    mark = tmp_path / "mark"
    mark.touch()
    with joblib.parallel_config("pserver", network=chosen, retries=1):
        sums = Parallel(batch_size=1)(delayed(dies_once)(array, mark) for _ in range(6))
    assert sums == [array.sum()] * 6
    wait_until(lambda: not mark.exists(), "a worker to die")


def _draw(_: int) -> list[float]:
    return [float(pconnect.rng().random()), float(np.random.random_sample())]


def test_seeded_tasks_do_not_depend_on_batches(net: ClientNetwork) -> None:
    runs = []
    for n_jobs, batch_size in [(2, 1), (2, 5), (-1, "auto"), (-1, 7)]:
        with joblib.parallel_config("pserver", network=net, seed=42):
            calls = [
                Parallel(n_jobs, batch_size=batch_size)(delayed(_draw)(k) for k in range(30))
                for _ in range(2)
            ]
        runs.append([number for call in calls for numbers in call for number in numbers])
    assert all(run == runs[0] for run in runs)
    assert len(set(runs[0])) == 2 * 2 * 30


@pytest.mark.usefixtures("chosen")
def test_tasks_without_a_seed_draw_different_numbers() -> None:
    drawn = [
        number
        for numbers in Parallel(batch_size=7)(delayed(_draw)(k) for k in range(50))
        for number in numbers
    ]
    drawn += Parallel()(delayed(np.random.random_sample)() for _ in range(50))
    assert len(set(drawn)) == 150
