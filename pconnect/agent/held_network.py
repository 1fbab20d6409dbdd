"""The network that the agent keeps: it connects at the first call, and again when missing servers are back."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pconnect.connect import pconnect
from pconnect.errors import ParallelError
from pconnect.executors.executor import scheduler_of
from pconnect.link.host_names import parse_hosts
from pconnect.profiles import NoHostsError, config_file
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.scheduler import Scheduler
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from srp_tools.private_files import client_file

_CONNECT_SECONDS = 15.0
_SLOTS_SECONDS = 10.0
_RETRY_SECONDS = 3.0  # the interval between failed attempts to connect
_LOOK_SECONDS = 15.0  # the interval between searches for missing servers
_PROBE_SECONDS = 2.0


class Generation:
    """One network. `uses`: the number of programs that use it. `is_retired`: a newer network has replaced it."""

    def __init__(self, network: ClientNetwork) -> None:
        self.network = network
        self.uses = 0
        self.is_retired = False
        self.scheduler: Scheduler = scheduler_of(client_mesh(network.mesh))

    @property
    def nodes(self) -> list[NodeWorkers]:
        """All nodes, including lost ones."""
        return self.scheduler.nodes()

    @property
    def living(self) -> list[NodeWorkers]:
        """The nodes that can run programs."""
        return [node for node in self.nodes if not node.gone]

    def absent(self) -> list[str]:
        """Return the missing and lost hosts, as `pconnect` accepts them."""
        lost = [node.server.host for node in self.nodes if node.gone]
        return [*self.network.missing, *lost]

    def close(self) -> None:
        """Leave the servers."""
        with contextlib.suppress(ParallelError, OSError):
            self.network.close()


def configuration_stamps() -> list[tuple[int, ...] | None]:
    """Return values that change when one of the configuration files of `pconnect` changes."""
    stamps: list[tuple[int, ...] | None] = []
    for path in (config_file(), client_file()):
        try:
            facts = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino))
    return stamps


class HeldNetwork:
    """The keeper of the network.

    `call`: calls a function in the agent's thread, the only thread that may use this object. `on_change`: called there
    when there is a new network, or when connecting failed; `error` then has the reason.
    """

    def __init__(self, call: Callable[[Callable[[], object]], object], on_change: Callable[[], None]) -> None:
        self.current: Generation | None = None
        self.error = ""
        self._call = call
        self._on_change = on_change
        self._is_trying = self._is_replacing = False
        self._tried_at = float("-inf")
        self._stamps = configuration_stamps()

    @property
    def is_pending(self) -> bool:
        """Whether callers that need the network must wait until `on_change` is called."""
        self.look()
        return self._is_trying and (self._is_replacing or self.current is None or not self.current.living)

    def look(self) -> None:
        """Connect if there is no network, or reconnect if missing servers are back, but not too often.

        A change of the configuration leads to a new connection at any time.
        """
        age = time.monotonic() - self._tried_at
        if self._is_trying:
            return
        stamps = configuration_stamps()
        if stamps != self._stamps:
            self._stamps, self._is_replacing = stamps, True
            self._begin(self._connect)
        elif self.current is None or not self.current.living:
            if age > _RETRY_SECONDS:
                self._begin(self._connect)
        elif age > _LOOK_SECONDS and (hosts := self.current.absent()):
            self._begin(lambda: self._probe(hosts))

    def release(self, generation: Generation) -> None:
        """Count one program less on a network. Close a retired network after its last program."""
        generation.uses -= 1
        if generation.is_retired and not generation.uses:
            threading.Thread(target=generation.close, daemon=True).start()

    def close(self) -> None:
        """Leave all servers."""
        if self.current is not None:
            self.current.close()

    # --- functions for other threads ---

    def _begin(self, function: Callable[[], None]) -> None:
        self._is_trying = True
        threading.Thread(target=function, name="prun network", daemon=True).start()

    def _connect(self) -> None:
        generation, error = None, ""
        try:
            network = pconnect(required=1, timeout=_CONNECT_SECONDS)
            generation = Generation(network)
            generation.scheduler.count_slots([node.number for node in generation.nodes], _SLOTS_SECONDS)
        except NoHostsError as failure:
            error = f"no server is configured; {failure.remedy}"
        except (ParallelError, OSError, TimeoutError) as failure:
            error = str(failure)
        self._call(lambda: self._take(generation, error))

    def _probe(self, hosts: list[str]) -> None:
        """Connect again if one of the missing hosts can now be reached."""
        for host in parse_hosts(hosts):
            if host.is_socket:
                if Path(host.name).is_socket():
                    self._connect()
                    return
                continue
            with (
                contextlib.suppress(OSError),
                socket.create_connection((host.name, host.port), _PROBE_SECONDS),
            ):
                self._connect()
                return
        self._call(lambda: self._take(None, ""))

    # --- functions for the agent's thread ---

    def _take(self, generation: Generation | None, error: str) -> None:
        self._is_trying = False
        self._tried_at = time.monotonic()
        old = self.current
        if generation is not None:
            if not self._is_replacing and old is not None and len(generation.living) <= len(old.living):
                generation.is_retired = True
                generation.uses = 1
                self.release(generation)
            else:
                self._replace(generation, "")
        elif self._is_replacing:
            self._replace(None, error)  # the old network does not match the new configuration
        elif error and (old is None or not old.living):
            self.error = error
        self._is_replacing = False
        self._on_change()

    def _replace(self, generation: Generation | None, error: str) -> None:
        old, self.current, self.error = self.current, generation, error
        if old is not None:
            old.is_retired = True
            old.uses += 1
            self.release(old)
