"""Connections that a forked process inherits from its parent and must not use.

Both processes have the same descriptors and the same keys. If the child sends, receives or closes anything, the
parent's network fails. So the child abandons everything right after the fork, before any user code runs: it closes its
own descriptors without notifying anyone, and raises an error for every use. This covers `os.fork` and everything based
on it, such as `multiprocessing` with the start method "fork". Newly started programs do not need it.
"""

import contextlib
import os
import weakref
from typing import Protocol

from pconnect.errors import ConnectionLostError


class Inherited(Protocol):
    """An object that belongs to one process."""

    def abandon(self, error: ConnectionLostError) -> None:
        """Leave the object to its owner. Every use in this process raises `error`. A second call does nothing."""


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()
_this_process = os.getpid()


def leave_in_copies(thing: Inherited) -> None:
    """Abandon an object in every forked copy of this process."""
    _inherited.add(thing)


def check_process(made_in: int) -> None:
    """Raise an error if this process is a forked copy of the one that created an object.

    `made_in`: the result of `os.getpid` in the process that created the object.
    """
    if os.getpid() != made_in:
        raise _error(made_in)


def _error(owner: int) -> ConnectionLostError:
    return ConnectionLostError(
        f"this process is a forked copy of process {owner}, whose network it cannot use: connect here with pconnect, "
        'or use the network in that process only (multiprocessing: the start method "spawn", or net.pool())'
    )


def _abandon_all() -> None:
    global _this_process
    error, _this_process = _error(_this_process), os.getpid()
    things = list(_inherited)
    _inherited.clear()
    with contextlib.ExitStack() as stack:  # abandon all, even if one of them raises an error
        for thing in things:
            stack.callback(thing.abandon, error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
