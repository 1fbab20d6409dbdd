"""The processes of a Dask cluster on the machines of a network; engines start and end them.

The engines provide the services called here, see `pserver.services.dask_processes`. The steps are:

1. The engines create a key for each process; the client, the authority of the network, signs them. No key is sent.
2. All processes are started at the same time. The scheduler reports its address, and the workers receive it.
3. When all processes have reported that they are ready, Dask's own client connects (`pconnect.dask.client`).

Between two calls an engine is free. The processes end in three ways: the client ends the scheduler, which ends the
workers; the engines then kill remaining processes; and in any case the processes end with their engine.
"""

import ipaddress
import secrets
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.errors import ConfigurationError, ConnectionLostError, ProcessFailedError
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import call_service
from pconnect.session.server import Server
from pconnect.session.versions import VersionWarning, installed
from srp_tools.certificates import NetworkAuthority
from srp_tools.steps import deadline_after

SCHEDULER = "scheduler"  # the name of that process; all others are workers
_LOOK_SECONDS = 0.1  # an engine waits this long for news of its processes
_GRACE = 1.0  # for processes that end by themselves
_KILL_TIMEOUT = 5.0
_LAST_LINES = 15
_LOOPBACK = "127.0.0.1"  # for a server without an address, which is on this machine


@dataclass(frozen=True)
class Plan:
    """The processes of a cluster, and their options."""

    #: Names of the processes, by node; the scheduler is the first process of the first node.
    names: Mapping[int, Sequence[str]]
    threads: int
    memory_limit: str | float | None
    timeout: float  #: seconds until all processes must be ready
    dashboard: bool = False  #: whether the scheduler serves its pages to processes of this network

    def only(self, node: int, name: str) -> "Plan":
        """Return the same plan for a single worker."""
        return replace(self, names={node: [name]})


class DaskCluster:
    """The processes of one cluster, controlled by the client of the network."""

    def __init__(self, mesh: ClientMesh, authority: NetworkAuthority, plan: Plan) -> None:
        self._mesh = mesh
        self._authority = authority
        self._plan = plan
        self._deadline = deadline_after(plan.timeout)
        self._key = secrets.token_hex(8)  # identifies this cluster to the engines
        self._nodes = {name: node for node, names in plan.names.items() for name in names}
        self.dashboard_port: int | None = None  #: of the scheduler's pages, once it has reported it

    @property
    def seconds_left(self) -> float:
        """The rest of the time limit for starting."""
        return max(0.0, self._deadline - time.monotonic())

    def start(self) -> str:
        """Start all processes, and return the scheduler's address when all are ready.

        Raises `ConfigurationError` if a node has no Dask, `ProcessFailedError` with the last output if a process could
        not start, and `TimeoutError` with the name of a process or node that was not ready in time. Call `stop` in all
        these cases.
        """
        if foreign := self._mesh.foreign_among(self._plan.names):
            raise ConfigurationError(
                f"{foreign}, which differs from the client: Dask sends functions as byte code, which crashes other "
                "versions of Python; install the same version everywhere, or start the cluster on a part of the network"
            )
        self.launch(hosts_of([self._mesh.servers[node] for node in self._plan.names]))
        facts = self._await({SCHEDULER})[SCHEDULER]
        self.dashboard_port = facts["dashboard"]
        address: str = facts["address"]
        self.join(address, self._nodes.keys() - {SCHEDULER})
        return address

    def launch(self, hosts: Mapping[int, Sequence[str]]) -> None:
        """Start the processes; workers wait for the address of the scheduler. For `hosts` see `hosts_of`."""
        prepared = self._call("prepare", {node: [list(names)] for node, names in self._plan.names.items()})
        self._check_versions({node: version for node, (version, _) in prepared.items()})
        plan = self._plan
        common = {
            "threads": plan.threads, "memory_limit": plan.memory_limit, "dashboard": plan.dashboard,
        }  # fmt: skip
        self._call(
            "start",
            {
                node: [
                    {name: self._authority.sign_role(key, name) for name, key in keys.items()},
                    self._authority.certificate,
                    {**common, "hosts": hosts[node], "grace": self.seconds_left},
                ]
                for node, (_, keys) in prepared.items()
            },
        )

    def join(self, address: str, workers: Collection[str]) -> None:
        """Connect workers to the scheduler, and wait until they listen."""
        if workers:
            self._call(
                "connect", {node: [address] for node in sorted({self._nodes[name] for name in workers})}
            )
            self._await(workers)

    def stop(self, grace: float = _GRACE) -> None:
        """End all processes; kill those that have not ended after `grace` seconds.

        Busy engines do this later, and the call does not wait for them.

        Raises `RemoteError` if an engine failed to do it.
        """
        if self._mesh.closed:  # then the processes have ended as well
            return
        there = [node for node in self._plan.names if node in self._mesh.servers]  # without removed nodes
        idle = [node for node in there if not self._mesh.servers[node].running]
        commands = self._send("stop", {node: [grace] for node in there})
        deadline = deadline_after(grace + _KILL_TIMEOUT)
        for command in commands:
            if command.node in idle:
                with suppress(TimeoutError):
                    error = command.exception(max(0.0, deadline - time.monotonic()))
                    # If the engine is gone, its processes are gone as well.
                    if error is not None and not isinstance(error, ConnectionLostError):
                        raise error

    def where(self, name: str) -> str:
        """Return a process and its node as text."""
        what = "the Dask scheduler" if name == SCHEDULER else f"Dask worker {name}"
        return f"{what} on {self._named([self._nodes[name]])}"

    def _named(self, nodes: Collection[int]) -> str:
        return ", ".join(f"node {node} ({self._mesh.connections[node].host})" for node in nodes)

    def _check_versions(self, versions: Mapping[int, str | None]) -> None:
        lacking = [node for node, version in versions.items() if version is None]
        if lacking:
            raise ConfigurationError(
                f"Dask is not installed on {self._named(lacking)}: run pip install 'pserver[dask]' there"
            )
        own = installed(["distributed"])["distributed"]
        others = [
            f"{version} on {self._named([node])}" for node, version in versions.items() if version != own
        ]
        if others:
            warnings.warn(
                f"Dask's distributed is {own} on the client, but {', '.join(others)}: "
                "graphs made on one side may be unreadable on the other; install the same version everywhere",
                VersionWarning,
                stacklevel=4,
            )

    def _await(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Wait until processes report where they listen; return their reports."""
        nodes = sorted({self._nodes[name] for name in names})
        while True:
            said = self._call("look", {node: [_LOOK_SECONDS] for node in nodes})
            facts = {name: fact for each in said.values() for name, fact in each.items() if name in names}
            for name, fact in facts.items():
                if fact["exit_code"] is not None:
                    raise ProcessFailedError(
                        f"{self.where(name)} could not start: exit status {fact['exit_code']}"
                        + _quoted(fact["last_words"])
                    )
            silent = [name for name, fact in facts.items() if fact["address"] is None]
            if not silent:
                return facts
            if not self.seconds_left:
                raise TimeoutError(
                    f"timed out after {self._plan.timeout:g} s waiting for {self.where(silent[0])}"
                    + _quoted(facts[silent[0]]["last_words"])
                )

    # --- calls to the engines ---

    def _send(self, service: str, arguments: Mapping[int, Sequence[Any]]) -> list[Command]:
        return [
            call_service(f"dask.{service}", [self._key, *args], self._mesh.connections[node])
            for node, args in arguments.items()
        ]

    def _call(self, service: str, arguments: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """Call a Dask service with arguments for each node; return the results by node."""
        commands = self._send(service, arguments)
        try:
            # A `look` that started in time may finish, because it tells what the time was spent on.
            values = Commands(service, commands).result(self.seconds_left + 2 * _LOOK_SECONDS)
        except TimeoutError:
            busy = [command.node for command in commands if not command.done()]
            for command in commands:
                command.cancel()
            raise TimeoutError(
                f"timed out after {self._plan.timeout:g} s starting Dask: no answer from {self._named(busy)}; "
                "wait until its engine has no running command"
            ) from None
        return dict(zip(arguments, values or [], strict=True))


def hosts_of(servers: Sequence[Server]) -> dict[int, list[str]]:
    """Return by node the addresses on which processes may listen, the best first.

    First comes the address at which the client has reached the server, then the addresses reported by the server. If
    some servers are on other machines, loopback addresses are left out, because those cannot use them.
    """
    hosts = {server.node: server.location.addresses for server in servers}
    if all(_is_loopback(server.location.address) for server in servers):
        return {server.node: server.location.addresses[:1] or [_LOOPBACK] for server in servers}
    return {
        node: [name for name in names if not _is_loopback(name)] or names for node, names in hosts.items()
    }


def _is_loopback(address: str) -> bool:
    is_socket = address.startswith("/")
    return is_socket or ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _quoted(last_words: str) -> str:
    lines = last_words.splitlines()[-_LAST_LINES:]
    return "\n".join(["; its last output:", *lines]) if lines else "; it printed nothing"
