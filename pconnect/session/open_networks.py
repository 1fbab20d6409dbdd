"""The networks that are open in this process: the last one, and who wants to know of new ones.

Nothing here keeps a network alive. It is for front ends such as the magics of a notebook, where "the network" is the
one that was connected last.
"""

import weakref
from collections.abc import Callable

from pconnect.session.client_mesh import ClientMesh

_open: list[weakref.ref[ClientMesh]] = []  # the newest last
_watchers: list[Callable[[ClientMesh], object]] = []


def register(mesh: ClientMesh) -> None:
    """Take note of a new network, and tell who wants to know."""
    _open[:] = [reference for reference in _open if (known := reference()) is not None and not known.closed]
    _open.append(weakref.ref(mesh))
    for watcher in tuple(_watchers):
        watcher(mesh)


def all_open() -> list[ClientMesh]:
    """Return the networks that are open, the newest last."""
    meshes = [reference() for reference in _open]
    return [mesh for mesh in meshes if mesh is not None and not mesh.closed]


def watch(watcher: Callable[[ClientMesh], object]) -> None:
    """Call `watcher` with each network that is open, and from now on with each new one."""
    _watchers.append(watcher)
    for mesh in all_open():
        watcher(mesh)


def unwatch(watcher: Callable[[ClientMesh], object]) -> None:
    """End `watch`."""
    _watchers.remove(watcher)
