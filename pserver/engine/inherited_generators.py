"""Give random number generators a new state in a forked process. Otherwise all workers would draw the same numbers.

The search covers the usual places: the top level of modules, the workspace, and the objects in it. A limit on the
number of objects lets a worker start quickly however large the workspace is, and keeps its memory shared.
"""

import gc
import itertools
import random
import sys
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from numpy.random import MT19937, PCG64, PCG64DXSM, SFC64, BitGenerator, Generator, Philox, RandomState

_MAX_OBJECTS = 10_000  # in the workspace, searched breadth first: a few milliseconds
_SIZED = (list, tuple, dict, set, frozenset)
_NUMPY = frozenset([Generator, RandomState, MT19937, PCG64, PCG64DXSM, Philox, SFC64])
_KINDS = (Generator, RandomState, BitGenerator, random.Random)


def renew_generators(names: Mapping[str, Any]) -> None:
    """Reseed the generators in a workspace and at the top level of modules from the operating system."""
    found = {id(each): each for each in itertools.chain(_of_modules(), _of_workspace(names))}
    for generator in found.values():
        _renew(generator)


def _renew(generator: Any) -> None:
    if isinstance(generator, random.Random):
        generator.seed()
        return
    bits = generator if isinstance(generator, BitGenerator) else generator._bit_generator
    if isinstance(generator, RandomState) and isinstance(bits, MT19937):
        generator.seed()  # this also drops a cached normal variate
    elif type(bits).__module__.startswith("numpy."):
        bits.state = type(bits)().state


def _of_modules() -> Iterator[object]:
    for module in list(sys.modules.values()):
        if isinstance(module, types.ModuleType):
            yield from [value for value in list(vars(module).values()) if type(value) in _NUMPY]


def _of_workspace(names: Mapping[str, Any]) -> Iterator[object]:
    # Do not search the dictionaries of modules, which functions hold as their globals.
    seen = {id(vars(each)) for each in sys.modules.values() if isinstance(each, types.ModuleType)}
    waiting = deque(names.values())
    looked_at = 0
    while waiting and looked_at < _MAX_OBJECTS:
        value = waiting.popleft()
        if id(value) in seen:
            continue
        looked_at += 1
        seen.add(id(value))
        if issubclass(type(value), _KINDS):
            yield value
        elif _may_hold(value):
            waiting.extend(gc.get_referents(value))


def _may_hold(value: object) -> bool:
    if not gc.is_tracked(value) or isinstance(value, types.ModuleType):
        return False
    if type(value) in _SIZED:
        return len(value) <= _MAX_OBJECTS  # type: ignore[arg-type]
    return not issubclass(type(value), type) or getattr(value, "__module__", None) == "__main__"
