"""Random number generators that a worker inherits get a new state, wherever users keep them."""

import copy
import functools
import random
import sys
import types
from typing import Any

import numpy as np
import pytest
from numpy.random import MT19937, PCG64, SFC64, Generator, Philox, RandomState

from pconnect import local_network
from pserver.engine.inherited_generators import renew_generators
from tests.support.workers import two_workers


class Model:
    """An object of the user's code that draws random numbers."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator


def _draw(generator: Any) -> float:
    if isinstance(generator, MT19937 | PCG64 | SFC64 | Philox):
        generator = Generator(generator)
    drawn = [
        generator.normal(0, 1) if isinstance(generator, RandomState) else generator.random() for _ in range(3)
    ]
    return float(drawn[-1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.random.default_rng(1), lambda: RandomState(1), lambda: RandomState(PCG64(1)), lambda: PCG64(1),
        lambda: Generator(MT19937(1)), lambda: Generator(Philox(1)), lambda: SFC64(1), lambda: random.Random(1),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "keep",
    [
        lambda each: each, lambda each: {"a": [(each,)]}, Model, lambda each: each.__reduce__,
        lambda each: lambda: each, lambda each: functools.partial(abs, each), lambda each: lambda x=each: x,
    ],
)  # fmt: skip
def test_all_kinds_at_all_places(make: Any, keep: Any) -> None:
    generator = make()
    if isinstance(generator, RandomState):
        generator.normal()  # caches a second variate
    other = copy.deepcopy(generator)
    names = {"np": np, "text": "x", "kept": keep(generator)}
    renew_generators(names)
    assert _draw(generator) != _draw(other)


def test_one_at_the_top_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("module_of_the_user")
    module.generator = np.random.default_rng(1)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    renew_generators({"module": module})
    assert module.generator.random() != np.random.default_rng(1).random()


def test_a_large_workspace_is_not_gone_through() -> None:
    generator = np.random.default_rng(1)
    names: dict[str, Any] = {"rows": [[k] for k in range(100_000)], "deep": [[[generator]]]}
    names["rows"].append([generator])
    renew_generators(names)
    assert generator.random() != np.random.default_rng(1).random()
    names["deep"] = []
    state = generator.bit_generator.state
    renew_generators(names)
    assert generator.bit_generator.state == state


def test_workers_of_a_node_draw_different_numbers() -> None:
    with local_network(1, slots=2) as net:
        net.eval("rng, state = np.random.default_rng(1), {'old': [np.random.RandomState(1)]}").result(20.0)
        two_workers(net)
        drawn = list(net.map("lambda _: [rng.random(), state['old'][0].random_sample()]", range(200)))
    assert len({number for numbers in drawn for number in numbers}) == 400
