"""What a forked copy of a process inherits and must leave alone: the connections of the process that was forked.

Both processes have the same descriptors and the same keys. Whatever the copy sends, receives or closes would end the
network of the other. So it gives up everything right after the fork, before any code of the user runs: it closes its
own descriptors, says nothing to anybody, and has an error that says so for every use. `os.fork` and what is made of it,
such as `multiprocessing` with the start method "fork", call this; programs that are started anew do not need it.
"""

import contextlib
import os
import weakref
from typing import Protocol

from pconnect.errors import ConnectionLostError


class Inherited(Protocol):
    """Something that belongs to one process."""

    def abandon(self, error: ConnectionLostError) -> None:
        """Leave it to the process that made it; here, every use raises `error`. A second call does nothing more."""


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()
_this_process = os.getpid()


def leave_in_copies(thing: Inherited) -> None:
    """Have something abandoned in every forked copy of this process."""
    _inherited.add(thing)


def check_process(made_in: int) -> None:
    """Raise if something was made in another process than this one, which is then a forked copy.

    `made_in`: what `os.getpid` returned there.
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
    with contextlib.ExitStack() as stack:  # one after the other, whatever goes wrong with one
        for thing in things:
            stack.callback(thing.abandon, error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
