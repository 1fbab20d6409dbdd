"""Scientific libraries with workers of a network give the same results as without it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import emcee
import joblib
import numpy as np
import pytest
import threadpoolctl
from scipy.optimize import OptimizeResult, differential_evolution
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import bytes_to_workers, run_server

DATA = np.random.default_rng(0).normal(3.0, 2.0, 5000)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[ClientNetwork]:
    """Yield a network of two nodes with two slots, whose workers have scikit-learn already imported."""
    folder = tmp_path_factory.mktemp("slots")
    with run_server(folder, "--slots=2", users=users) as server, server.connect(2) as net:
        net.eval("import emcee, sklearn.model_selection, sklearn.svm").result()
        yield net


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Make this process compute as a worker does: the last bit of a sum depends on the number of threads."""
    with threadpoolctl.threadpool_limits(1):
        yield


def scores(search: Any) -> dict[str, Any]:
    return {name: column for name, column in search.cv_results_.items() if "time" not in name}


def compare(serial: Any, parallel: Any) -> None:
    assert parallel.best_params_ == serial.best_params_
    assert parallel.best_score_ == serial.best_score_
    for name, column in scores(serial).items():
        np.testing.assert_array_equal(np.asarray(scores(parallel)[name]), np.asarray(column), name)


@pytest.mark.parametrize(
    ("load", "make"),
    [
        pytest.param(
            load_digits,
            lambda: GridSearchCV(SVC(), {"C": [0.1, 1, 10], "gamma": [0.0005, 0.001]}, cv=3),
            marks=pytest.mark.slow,
        ),
        (
            load_breast_cancer,
            lambda: RandomizedSearchCV(
                make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
                {"logisticregression__C": np.logspace(-3, 2, 30)},
                n_iter=8,
                random_state=0,
            ),
        ),
    ],
)
def test_a_search_has_the_scores_of_a_serial_one(
    net: ClientNetwork, load: Callable[..., Any], make: Callable[[], Any]
) -> None:
    x, y = load(return_X_y=True)
    serial = make().fit(x, y)
    with joblib.parallel_config("pserver", network=net):
        parallel = make().fit(x, y)
    compare(serial, parallel)
    np.testing.assert_array_equal(parallel.predict(x), serial.predict(x))


def test_estimators_come_back(net: ClientNetwork) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    serial = RandomForestClassifier(20, random_state=0, n_jobs=1).fit(x, y)
    with joblib.parallel_config("pserver", network=net):
        parallel = RandomForestClassifier(20, random_state=0).fit(x, y)
    np.testing.assert_array_equal(parallel.predict_proba(x), serial.predict_proba(x))


def test_a_fit_that_fails_says_what_it_says_here(net: ClientNetwork) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    search = GridSearchCV(SVC(), {"C": [-1.0]}, error_score="raise")
    with (
        joblib.parallel_config("pserver", network=net),
        pytest.raises(ValueError, match="The 'C' parameter of SVC must be a float"),
    ):
        search.fit(x, y)


def test_large_data_are_sent_to_each_worker_once(net: ClientNetwork) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16384, 100))  # 12.5 MiB
    y = x @ rng.normal(size=100)
    search = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0, 100.0]}, cv=5)
    before = bytes_to_workers(net)
    with joblib.parallel_config("pserver", network=net):
        search.fit(x, y)
    # Twenty tasks; each comes with the indices of its rows and y, which are below joblib's limit of 1 MiB.
    assert bytes_to_workers(net) - before < 2.7 * x.nbytes


def log_probability(theta: Any, data: Any) -> float:
    mean, width = theta
    if width <= 0:
        return -np.inf
    return float(-0.5 * np.sum(((data - mean) / width) ** 2) - len(data) * np.log(width))


def test_emcee(net: ClientNetwork) -> None:
    start = np.random.default_rng(1).normal([3.0, 2.0], 0.1, (8, 2))

    def chain(pool: Any) -> Any:
        sampler = emcee.EnsembleSampler(8, 2, log_probability, args=(DATA,), pool=pool)
        sampler.random_state = np.random.RandomState(5).get_state()
        sampler.run_mcmc(start, 20)
        return sampler.get_chain()

    serial = chain(None)
    with net.pool() as pool:
        np.testing.assert_array_equal(chain(pool), serial)


def rosenbrock(x: Any, scale: float) -> float:
    return float(np.sum(scale * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def test_scipy(net: ClientNetwork) -> None:
    def solve(workers: Any) -> OptimizeResult:
        options: dict[str, Any] = {"updating": "deferred", "maxiter": 20, "polish": False, "rng": 1}
        return differential_evolution(rosenbrock, [(-2, 2)] * 3, args=(100.0,), workers=workers, **options)

    serial = solve(1)
    with net.pool() as pool:
        results = [solve(pool.map), solve(net.executor().map), solve(net.map)]
    for result in results:
        assert (result.fun, result.nfev) == (serial.fun, serial.nfev)
        np.testing.assert_array_equal(result.x, serial.x)
