"""Random generators in sent data: global ones are not copied, others are, with a warning."""

import functools
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pconnect.commands.function_pickling import pack_call, pack_function, pickle_value, unpack_function
from pconnect.remote_entry import map_part
from pconnect.views.network_views import ClientNetwork
from tests.support.workers import two_workers

global_rng = np.random.default_rng(1)


def _uses_a_global() -> float:
    return global_rng.random()


def _functions() -> list[tuple[str | None, Callable[..., Any]]]:
    local_rng, old, own = np.random.default_rng(1), np.random.RandomState(1), random.Random(1)
    draw = local_rng.normal
    return [
        ("global_rng", _by_value(_uses_a_global)),
        ("local_rng", lambda: local_rng.random()),  # noqa: PLW0108 - a closure is meant
        ("old", lambda: old.rand()),  # noqa: PLW0108
        ("own", lambda: own.random()),  # noqa: PLW0108
        ("draw", lambda: draw()),  # noqa: PLW0108
        ("given", lambda given=local_rng: given.random()),
        ("keyword", functools.partial(dict, keyword=local_rng)),
        ("local_rng", functools.partial(map_part, lambda: local_rng.random())),  # noqa: PLW0108
        (None, local_rng.normal),
        (None, functools.partial(id, local_rng)),
    ]


def _by_value(function: Any) -> Any:
    """Return a function as if it had been defined in a notebook, so that its globals are sent with it."""
    function.__module__ = "__main__"
    return function


@pytest.mark.parametrize(("name", "function"), _functions())
def test_a_function_with_a_generator_is_warned_of(name: str | None, function: Any) -> None:
    what = f"contains the random generator '{name}'" if name else "contains a random generator"
    for send in (pack_function, lambda function: pack_call(function, [], {}, pickled=False)):
        with pytest.warns(RuntimeWarning, match=rf"{what}: .*pconnect\.rng\(\)") as caught:
            send(function)
        assert len(caught) == 1


@pytest.mark.parametrize("function", [np.random.randint, np.random.permutation, random.random, random.gauss])
def test_a_global_generator_is_that_of_the_other_side(function: Any) -> None:
    data = b"".join(pack_function(function)[0])
    assert len(data) < 1000
    arrived: Any = unpack_function(data, {})
    assert arrived.__self__ is function.__self__


def test_arguments_in_the_same_state_are_warned_of() -> None:
    first, *others = np.random.default_rng(1).spawn(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for generator in (first, *others):
            pack_call("f", [generator], {}, pickled=True)
        first.random()
        pack_call("f", [first], {}, pickled=True)
        pickle_value(first)
        pickle_value(first)
    with pytest.warns(RuntimeWarning, match="in the arguments was sent before in the same state"):
        pack_call("f", [first], {}, pickled=True)


def test_numpys_generators_are_not_loaded_for_it() -> None:
    code = """if True:
        import sys
        from pconnect.commands.function_pickling import pack_function
        pack_function(lambda: 1)
        sys.exit("numpy.random" in sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("function", [np.random.randint, functools.partial(random.randrange)])
def test_functions_of_the_global_generators_draw_different_numbers(
    jobs_network: ClientNetwork, function: Any
) -> None:
    two_workers(jobs_network)
    jobs = [jobs_network.submit(function, 2**30) for _ in range(40)]
    assert len({int(job.result(20.0)) for job in jobs}) > 38
    assert len(set(jobs_network.apply(function, 2**30).result(20.0) or [])) == 2
