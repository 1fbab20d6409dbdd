"""The networks that are open in this process: the most recent one, and observers of new ones.

This module keeps no network alive. It serves front ends such as the magics of a notebook, where "the network" is the
most recent one.
"""

import weakref
from collections.abc import Callable

from pconnect.session.client_mesh import ClientMesh

_open: list[weakref.ref[ClientMesh]] = []  # newest last
_watchers: list[Callable[[ClientMesh], object]] = []


def register(mesh: ClientMesh) -> None:
    """Record a new network, and call the observers."""
    _open[:] = [reference for reference in _open if (known := reference()) is not None and not known.closed]
    _open.append(weakref.ref(mesh))
    for watcher in tuple(_watchers):
        watcher(mesh)


def all_open() -> list[ClientMesh]:
    """Return the open networks, newest last."""
    meshes = [reference() for reference in _open]
    return [mesh for mesh in meshes if mesh is not None and not mesh.closed]


def watch(watcher: Callable[[ClientMesh], object]) -> None:
    """Call `watcher` with each open network, and from now on with each new one."""
    _watchers.append(watcher)
    for mesh in all_open():
        watcher(mesh)


def unwatch(watcher: Callable[[ClientMesh], object]) -> None:
    """End `watch`."""
    _watchers.remove(watcher)
