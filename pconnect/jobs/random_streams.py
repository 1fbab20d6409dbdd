"""Random numbers: every job has a stream of its own, which depends on its place among all jobs, and on no worker.

A stream is one of numpy's `SeedSequence`: an *entropy*, and a *key* that is an index among all streams of this entropy.
With a seed the entropy is this, and the index that of the item: the third item of a map with ``seed=42`` draws from
``SeedSequence(42).spawn(3)[2]``. Without one they are the number of the network and that of the job. Both are the same
when the job is run again. What is made of a stream is made when it is asked for, because most jobs do not.

The global generators, of `numpy.random` and `random`, are given a state for each job that has a seed only: it takes
70 µs, which is more than a small job. Without a seed they go on from job to job, and differ from worker to worker.
"""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator, SeedSequence


class _Stream:
    """The stream of what runs in this process."""

    def __init__(self) -> None:
        self.entropy: int | None = None  #: ``None``: from the system
        self.key: tuple[int, ...] = ()
        self.first: tuple[int, ...] = ()  #: the key of the job itself, or of its first item
        self.is_seeded = False
        self.generator: Generator | None = None  #: once it was asked for


_here = _Stream()


def rng() -> Generator:
    """Return the generator of random numbers of the job, or the item of a map, that runs here.

    What it gives depends on the seed and on the index of the job or item: not on how many workers there are, on which
    of them runs it, on ``chunksize``, or on whether it was run before and lost. All jobs differ, also without a seed.

    In a command this is the generator of the engine's workspace, which goes on from command to command; engines differ.
    Elsewhere, as in a script on the client, it is a generator of the process, seeded by the system: so a function that
    calls `rng` can be tried at home.

    Returns
    -------
    numpy.random.Generator
        The same one whenever it is called in one job or item.

    Examples
    --------
    >>> import pconnect
    >>> def throw(n):
    ...     return int(pconnect.rng().integers(1, 7, n).sum())
    >>> with pconnect.local_network(2) as net:
    ...     once = list(net.map(throw, [100] * 4, seed=42))
    ...     again = list(net[1].map(throw, [100] * 4, seed=42, chunksize=3))
    >>> once == again, len(set(once)) > 1
    (True, True)
    """
    if _here.generator is None:
        _here.generator = np.random.default_rng(_sequence())
    return _here.generator


def begin(entropy: int, key: tuple[int, ...], *, is_seeded: bool) -> None:
    """Have `rng` draw from this stream; `is_seeded`: the user chose it, and the global generators follow."""
    _here.entropy, _here.key, _here.first, _here.is_seeded = entropy, key, key, is_seeded
    _here.generator = None
    if is_seeded:
        _seed_global_generators()


def begin_item(position: int) -> None:
    """Have `rng` draw from the stream of an item, of the job that runs here."""
    if not _here.first:
        return  # in no job
    *front, last = _here.first
    _here.key = (*front, last + position) if _here.is_seeded else (*_here.first, position)
    _here.generator = None
    if _here.is_seeded:
        _seed_global_generators()


class Saved(NamedTuple):
    """What `save` returns."""

    stream: Mapping[str, Any]
    global_generators: tuple[Any, Any] | None


def save(*, with_global_generators: bool) -> Saved:
    """Return the stream that runs here, for `restore`; with the states of `numpy.random` and `random`, if asked for."""
    states = (np.random.get_state(), random.getstate()) if with_global_generators else None
    return Saved(vars(_here).copy(), states)


def restore(saved: Saved) -> None:
    """Go on with a stream where it was."""
    vars(_here).update(saved.stream)
    if saved.global_generators is not None:
        numpy_state, python_state = saved.global_generators
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _sequence() -> SeedSequence:
    return SeedSequence(_here.entropy, spawn_key=_here.key)


def _seed_global_generators() -> None:
    state = _sequence().generate_state(8)
    np.random.seed(state[:4])
    random.seed(state[4:].tobytes())
