"""A network that follows its pool: `pconnect(elastic=True)` takes in servers that come while jobs wait.

It all happens in whatever thread of the user waits for a job, as `net.add` would there; no thread is ours. So a server
that comes is a member like all others. One that cannot be reached is tried again, after pauses that grow.
"""

import contextlib
import logging
import time
from collections.abc import Callable

from pconnect.errors import ConfigurationError, ParallelError
from pconnect.growth.adding import MakeConnection, add_nodes
from pconnect.link.host_names import Host
from pconnect.pool.further import further_hosts
from pconnect.session.client_mesh import ClientMesh

log = logging.getLogger("pconnect")

DEFAULT_INTERVAL = 5.0  # seconds from one question to the next
_ASK_SECONDS = 2.0  # for the answers of the servers
_ADD_SECONDS = 10.0  # for one server
_LONGEST_PAUSE = 300.0  # before a server that failed is tried again


def interval_of(elastic: bool | float) -> float:
    """Return every how many seconds a network asks for other servers; 0: never.

    Raises `ConfigurationError` if the option of `pconnect` makes no sense.
    """
    if isinstance(elastic, bool):
        return DEFAULT_INTERVAL if elastic else 0.0
    if not isinstance(elastic, int | float) or not 0.0 < elastic < float("inf"):
        raise ConfigurationError(f"elastic={elastic!r}: it must be True, False, or seconds")
    return float(elastic)


class Following:
    """What looks after new servers for one network.

    `interval`: as of `interval_of`. `make`: as of `pconnect.growth.adding.add_nodes`. `clock`: as `time.monotonic`.
    """

    def __init__(
        self,
        mesh: ClientMesh,
        interval: float,
        make: MakeConnection,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mesh = mesh
        self._interval = interval
        self._make = make
        self._clock = clock
        self._due = clock() + interval
        self._failed: dict[str, tuple[float, float]] = {}  # by id: not before an instant, and the next pause
        self._is_looking = False

    def look(self, deadline: float) -> None:
        """Add the servers that are new, if it is time; it is not if somebody waits with a time limit that is near."""
        now = self._clock()
        if now < self._due or self._is_looking or deadline - now < _ASK_SECONDS + _ADD_SECONDS:
            return
        self._is_looking = True
        try:
            with contextlib.suppress(
                ConfigurationError
            ):  # the nodes are being changed, or the network was closed
                for id_, hosts in further_hosts(self._mesh, _ASK_SECONDS).items():
                    if self._failed.get(id_, (0.0, 0.0))[0] <= now:
                        self._add(id_, hosts)
        finally:
            self._is_looking = False
            self._due = self._clock() + self._interval

    def _add(self, id_: str, hosts: list[Host]) -> None:
        """Add a server at the first of its addresses that leads there."""
        error: Exception | None = None
        for host in hosts:
            try:
                added = add_nodes(self._mesh, [host.ports_named], self._make, _ADD_SECONDS)
            except (ParallelError, OSError) as failure:
                if isinstance(failure, ConfigurationError):
                    raise
                error = failure
            else:
                log.info("node %d (%s) has come from the pool", added[0], host.label)
                self._failed.pop(id_, None)
                return
        _, pause = self._failed.get(id_, (0.0, self._interval))
        self._failed[id_] = self._clock() + pause, min(2 * pause, _LONGEST_PAUSE)
        if error is not None:
            self._mesh.attendance.missing[hosts[0].label] = error
            log.warning("a server of the pool cannot be added: %s", error)
