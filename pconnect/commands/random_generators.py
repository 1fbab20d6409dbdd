"""Random generators in pickles: each copy of a generator gives the same numbers.

Global generators are not copied: the other end has its own, with its own state. Others are copied, with a warning.
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

# Digests of generators recently sent in arguments.
_sent: deque[bytes] = deque(maxlen=256)


def generator_types() -> tuple[type, ...]:
    """Return the types of generators; those of numpy only if it has loaded them, because loading takes a while."""
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return (random.Random,)
    return random.Random, numpy.Generator, numpy.RandomState, numpy.BitGenerator


def global_in_place_of(generator: object) -> tuple[Any, ...] | None:
    """Return the replacement to pickle for a global generator."""
    for module in ("numpy.random", "random"):
        if module in sys.modules and global_generator(module) is generator:
            return global_generator, (module,)
    return None


def warn_of_copies(generators: Sequence[object], function: object, name: str) -> None:
    """Warn about generators in the pickle of a function; `name` is the function's."""
    found = _name(function, generators[0])  # one is enough
    what = f"the random generator {found!r}" if found else "a random generator"
    _warn(f"{name} contains {what}: every job and node gets a copy, which gives the same numbers")


def warn_of_same_state(generators: Iterable[object], what: str) -> None:
    """Warn about generators in arguments that were sent before in the same state."""
    digests = {
        _digest(generator) for generator in generators
    }  # numpy's contain another one with the same state
    if not digests.isdisjoint(_sent):
        _warn(f"a random generator in {what} was sent before in the same state: it gives the same numbers")
    _sent.extend(digests)


def _digest(generator: Any) -> bytes:
    bits = getattr(generator, "_bit_generator", generator)
    state = bits.getstate() if isinstance(bits, random.Random) else _plain(bits.state)
    return hashlib.blake2b(repr(state).encode(), digest_size=16).digest()


def _plain(state: Any) -> Any:
    """Return a state with bytes in place of arrays, because `repr` may shorten arrays."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tobytes() if hasattr(state, "tobytes") else state


def _warn(problem: str) -> None:
    text = f"{problem}; pconnect.rng(), called where the numbers are drawn, gives each job its own"
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _name(function: object, generator: object) -> str | None:
    """Return the name by which a function refers to a generator, if it is easy to find."""
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
    """Return whether a value is a generator, or a method of it."""
    return value is generator or (callable(value) and getattr(value, "__self__", None) is generator)
