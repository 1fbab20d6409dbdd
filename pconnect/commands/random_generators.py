"""Generators of random numbers in pickles: each copy of one gives the same numbers.

The global ones are not copied: at the other end there is one, with a state of its own. Others are, with a warning.
"""

import functools
import hashlib
import inspect
import random
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from pconnect.remote_entry import global_generator

# What was sent in arguments lately, as digests.
_sent: deque[bytes] = deque(maxlen=256)


def generator_types() -> tuple[type, ...]:
    """Return the types of generators; those of numpy only if it has loaded them, because that takes a while."""
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return (random.Random,)
    return random.Random, numpy.Generator, numpy.RandomState, numpy.BitGenerator


def global_in_place_of(generator: object) -> tuple[Any, ...] | None:
    """Return what is pickled in place of a global generator."""
    for module in ("numpy.random", "random"):
        if module in sys.modules and global_generator(module) is generator:
            return global_generator, (module,)
    return None


def warn_of_copies(generators: Sequence[object], function: object, name: str) -> None:
    """Warn of generators in the pickle of a function; it is called `name`."""
    found = _name(function, generators[0])  # of one is enough
    what = f"the random generator {found!r}" if found else "a random generator"
    _warn(f"{name} takes {what} with it: every job and node has a copy, which gives the same numbers")


def warn_of_same_state(generators: Iterable[object], what: str) -> None:
    """Warn of generators in arguments that were sent before as they are."""
    digests = {_digest(generator) for generator in generators}  # numpy's contain another, of the same state
    if not digests.isdisjoint(_sent):
        _warn(f"a random generator in {what} was sent before in the same state: it gives the same numbers")
    _sent.extend(digests)


def _digest(generator: Any) -> bytes:
    bits = getattr(generator, "_bit_generator", generator)
    state = bits.getstate() if isinstance(bits, random.Random) else _plain(bits.state)
    return hashlib.blake2b(repr(state).encode(), digest_size=16).digest()


def _plain(state: Any) -> Any:
    """Return a state with bytes in place of arrays, of which `repr` may show a part only."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tobytes() if hasattr(state, "tobytes") else state


def _warn(problem: str) -> None:
    text = f"{problem}; pconnect.rng(), called where the numbers are drawn, gives each job its own"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _name(function: object, generator: object) -> str | None:
    """Return by which name a function knows a generator, if it is easily found."""
    if isinstance(function, functools.partial):
        for keyword, value in function.keywords.items():
            if _is_of(value, generator):
                return keyword
        names = (_name(part, generator) for part in (function.func, *function.args))
        return next((name for name in names if name), None)
    if inspect.ismethod(function):
        function = function.__func__
    if not inspect.isfunction(function):
        return None
    known = inspect.getclosurevars(function)
    defaults = inspect.signature(function).parameters.values()
    given = {each.name: each.default for each in defaults}
    for name, value in {**given, **known.globals, **known.nonlocals}.items():
        if _is_of(value, generator):
            return name
    return None


def _is_of(value: object, generator: object) -> bool:
    """Tell whether a value is a generator, or a method of it."""
    return value is generator or (callable(value) and getattr(value, "__self__", None) is generator)
