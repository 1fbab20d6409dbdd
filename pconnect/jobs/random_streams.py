"""Random numbers: every job has its own stream, which depends on the job's index and never on the worker.

A stream is a numpy `SeedSequence`: an *entropy*, and a *key* that is an index among all streams of this entropy. With a
seed, the seed is the entropy and the index is that of the item: the third item of a map with ``seed=42`` draws from
``SeedSequence(42).spawn(3)[2]``. Without a seed, the entropy is the network's number and the index is the job's number.
Both stay the same when a job runs again. Generators are created on request, because most jobs need none.

The global generators, of `numpy.random` and `random`, are seeded only for jobs with a seed: this takes 70 µs, longer
than a small job. Without a seed their state carries over from job to job, and differs between workers.
"""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator, SeedSequence


class _Stream:
    """The random stream of the job or command that runs in this process."""

    def __init__(self) -> None:
        self.entropy: int | None = None  #: ``None``: from the system
        self.key: tuple[int, ...] = ()
        self.first: tuple[int, ...] = ()  #: the key of the job itself, or of its first item
        self.is_seeded = False
        self.generator: Generator | None = None  #: created on the first request


_here = _Stream()


def rng() -> Generator:
    """Return the random number generator of the job, or of the item of a map, that runs here.

    Its numbers depend on the seed and the index of the job or item. They do not depend on the number of workers, the
    worker that runs the job, ``chunksize``, or whether the job was lost and ran again. Without a seed, too, all jobs
    differ.

    In a command this returns the generator of the engine's workspace, whose state carries over from command to command;
    engines differ. Elsewhere, such as in a script on the client, it returns a generator of the process, seeded by the
    operating system: you can try a function that calls `rng` without a network.

    Returns
    -------
    numpy.random.Generator
        The same generator for each call in one job or item.

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
    """Make `rng` draw from this stream. With `is_seeded` (a seed of the user), also seed the global generators."""
    _here.entropy, _here.key, _here.first, _here.is_seeded = entropy, key, key, is_seeded
    _here.generator = None
    if is_seeded:
        _seed_global_generators()


def begin_item(position: int) -> None:
    """Make `rng` draw from the stream of an item of the job that runs here."""
    if not _here.first:
        return  # no job is running here
    *front, last = _here.first
    _here.key = (*front, last + position) if _here.is_seeded else (*_here.first, position)
    _here.generator = None
    if _here.is_seeded:
        _seed_global_generators()


class Saved(NamedTuple):
    """The state that `save` returns."""

    stream: Mapping[str, Any]
    global_generators: tuple[Any, Any] | None


def save(*, with_global_generators: bool) -> Saved:
    """Return the current stream for `restore`, if requested with the states of `numpy.random` and `random`."""
    states = (np.random.get_state(), random.getstate()) if with_global_generators else None
    return Saved(vars(_here).copy(), states)


def restore(saved: Saved) -> None:
    """Restore a stream to its saved state."""
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
