"""Broadcast values: sent to each node once, then used by jobs as arguments without being sent again."""

import itertools
import secrets
from typing import Any

from pconnect.jobs.read_only import make_read_only
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.remote_entry import broadcast_value, broadcast_values
from pconnect.session.remote_calls import call_service, client_mesh, mesh_of
from pconnect.values.registry import register_type

_keys = itertools.count(1)
_prefix = secrets.token_hex(8)  # two clients never share an engine, but one client may have several networks


class Broadcast:
    """A handle for a value that the engines hold; wherever it occurs in a job's arguments, the job gets the value."""

    def __init__(self, key: str, value: Any, connections: Connections) -> None:
        self.key = key
        self.value = value
        self._connections = connections

    def __repr__(self) -> str:
        return f"<broadcast value of type {type(self.value).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return broadcast_value, (self.key,)

    def release(self, timeout: float | None = None) -> None:
        """Remove the value from the engines; jobs sent after this cannot use it."""
        mesh_of(self._connections).jobs.broadcasts.pop(self.key, None)
        call_service("broadcast.forget", [self.key], self._connections).result(timeout)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def broadcast(value: Any, connections: Connections, timeout: float | None) -> Broadcast:
    """Send a value to engines; see `pconnect.views.job_views.JobView.broadcast`."""
    key = f"{_prefix}/{next(_keys)}"
    call_service("broadcast.keep", [key, value], connections, wants_value=False).result(timeout)
    mesh, targets = resolve(connections)
    numbers = frozenset(target.node for target in targets)
    kept = client_mesh(mesh).jobs.broadcasts
    kept[key] = value, None if numbers == client_mesh(mesh).servers.keys() else numbers
    return Broadcast(key, value, connections)


def keep(key: str, value: Any) -> None:
    """Keep a value; called in an engine. Its arrays become read-only, because jobs share them."""
    make_read_only(value)
    broadcast_values[key] = value


def forget(key: str) -> None:
    """Forget a value; called in an engine."""
    broadcast_values.pop(key, None)


register_type(Broadcast, "pserver:broadcast", lambda handle: handle.key, broadcast_value)
