"""Members of collective calls in one process, as `links.networks` makes them, each in its own thread."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pconnect.loop.network import Network
from tests.support.links import LIMIT

Work = Callable[[Network], Any]


def together(nets: Sequence[Network], *works: Work) -> list[Any]:
    """Run work for each member (the last work for all further ones); return each result, with errors as values."""
    outcomes: list[Any] = [None] * len(nets)

    def run(index: int) -> None:
        try:
            outcomes[index] = works[min(index, len(works) - 1)](nets[index])
        except Exception as error:  # noqa: BLE001 - an outcome
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(nets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    return outcomes


def succeed(nets: Sequence[Network], *works: Work) -> list[Any]:
    """Do the same as `together`, but fail on any error."""
    outcomes = together(nets, *works)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def begin_anew(nets: Sequence[Network]) -> None:
    """Do the same as the client's next command after a failure."""
    epoch = max(net.mesh.epoch for net in nets) + 1
    for net in nets:
        net.mesh.begin_epoch(epoch)


def parts_of(nets: Sequence[Network], n: int) -> list[Network]:
    """Return the networks of the first `n` nodes, each as that node sees it."""
    return [net[:n] for net in nets[:n]]


def assert_identical(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> None:
    """Fail unless two arrays have the same dtype, shape and bits, in any memory order."""
    assert type(one) is type(other)
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    if one.dtype.char in "gG":  # long doubles have padding bytes between them
        assert np.array_equal(one, other, equal_nan=True)
        assert np.array_equal(np.signbit(one.real), np.signbit(other.real))
    else:
        assert one.tobytes() == other.tobytes()
