"""The processes of a Dask cluster at the machines of a network, started and ended by the engines.

The engines do it: `pserver.services.dask_processes` has the services that are called here. How it goes:

1. The engines make a key for each process; the client, being the network's authority, signs them. No key travels.
2. All processes are started at once. The scheduler reports where it listens, and the workers get that address.
3. When all have said that they are ready, Dask's own client connects (`pconnect.dask.client`).

Between two calls an engine is free. The processes end in one of three ways: the client ends the scheduler, which ends
the workers; then the engines look, and kill what is left; and whatever happens, they end with their engine.
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

SCHEDULER = "scheduler"  # the name of that process; the others are workers
_LOOK_SECONDS = 0.1  # that an engine waits for news of its processes
_GRACE = 1.0  # for processes that end by themselves
_KILL_TIMEOUT = 5.0
_LAST_LINES = 15
_LOOPBACK = "127.0.0.1"  # for a server that has no address, on this machine


@dataclass(frozen=True)
class Plan:
    """What to start."""

    #: Of the processes, by node; the scheduler is the first of the first node.
    names: Mapping[int, Sequence[str]]
    threads: int
    memory_limit: str | float | None
    timeout: float  #: seconds until all of it has to be ready
    dashboard: bool = False  #: whether the scheduler serves its pages, to processes of this network

    def only(self, node: int, name: str) -> "Plan":
        """Return the same for one worker."""
        return replace(self, names={node: [name]})


class DaskCluster:
    """The processes of one cluster, as the client of the network has them."""

    def __init__(self, mesh: ClientMesh, authority: NetworkAuthority, plan: Plan) -> None:
        self._mesh = mesh
        self._authority = authority
        self._plan = plan
        self._deadline = deadline_after(plan.timeout)
        self._key = secrets.token_hex(8)  # for the engines: which cluster
        self._nodes = {name: node for node, names in plan.names.items() for name in names}
        self.dashboard_port: int | None = None  #: of the scheduler's pages, once it has said so

    @property
    def seconds_left(self) -> float:
        """What is left of the time for starting."""
        return max(0.0, self._deadline - time.monotonic())

    def start(self) -> str:
        """Start all processes, and return the scheduler's address when all are ready.

        Raises `ConfigurationError` if a node has no Dask. Raises `ProcessFailedError` if a process could not start; the
        text has its last words. Raises `TimeoutError` if something was not ready in time; the text says what. In all
        these cases `stop` is still to be called.
        """
        if foreign := self._mesh.foreign_among(self._plan.names):
            raise ConfigurationError(
                f"{foreign}, and the client another: Dask sends functions as byte code, which crashes other versions "
                "of Python; run the same one everywhere, or make the cluster at a part of the network"
            )
        self.launch(hosts_of([self._mesh.servers[node] for node in self._plan.names]))
        facts = self._await({SCHEDULER})[SCHEDULER]
        self.dashboard_port = facts["dashboard"]
        address: str = facts["address"]
        self.join(address, self._nodes.keys() - {SCHEDULER})
        return address

    def launch(self, hosts: Mapping[int, Sequence[str]]) -> None:
        """Start the processes; workers wait for the address of the scheduler. `hosts`: as of `hosts_of`."""
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
        """Let workers connect to the scheduler, and wait until they listen."""
        if workers:
            self._call(
                "connect", {node: [address] for node in sorted({self._nodes[name] for name in workers})}
            )
            self._await(workers)

    def stop(self, grace: float = _GRACE) -> None:
        """End all processes, killing those that have not ended after some seconds.

        Busy engines do it when they have time, and the call does not wait for them.

        Raises `RemoteError` if an engine could not do it.
        """
        if self._mesh.closed:  # then they have ended
            return
        there = [node for node in self._plan.names if node in self._mesh.servers]  # others were removed
        idle = [node for node in there if not self._mesh.servers[node].running]
        commands = self._send("stop", {node: [grace] for node in there})
        deadline = deadline_after(grace + _KILL_TIMEOUT)
        for command in commands:
            if command.node in idle:
                with suppress(TimeoutError):
                    error = command.exception(max(0.0, deadline - time.monotonic()))
                    # Where the engine is gone, its processes are.
                    if error is not None and not isinstance(error, ConnectionLostError):
                        raise error

    def where(self, name: str) -> str:
        """Return a process and its node in words."""
        what = "the scheduler" if name == SCHEDULER else f"worker {name}"
        return f"{what} of Dask at {self._named([self._nodes[name]])}"

    def _named(self, nodes: Collection[int]) -> str:
        return ", ".join(f"node {node} ({self._mesh.connections[node].host})" for node in nodes)

    def _check_versions(self, versions: Mapping[int, str | None]) -> None:
        lacking = [node for node, version in versions.items() if version is None]
        if lacking:
            raise ConfigurationError(
                f"Dask is not installed at {self._named(lacking)}: run pip install 'pserver[dask]' there"
            )
        own = installed(["distributed"])["distributed"]
        others = [
            f"{version} at {self._named([node])}" for node, version in versions.items() if version != own
        ]
        if others:
            warnings.warn(
                f"Dask's distributed is {own} at the client, but {', '.join(others)}: "
                "graphs that one side makes may be unreadable at the other; install the same version everywhere",
                VersionWarning,
                stacklevel=4,
            )

    def _await(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Wait until processes say where they listen; return what is known of them."""
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
                    f"{self.where(silent[0])} was not ready within {self._plan.timeout:g} s"
                    + _quoted(facts[silent[0]]["last_words"])
                )

    # --- calls of the engines ---

    def _send(self, service: str, arguments: Mapping[int, Sequence[Any]]) -> list[Command]:
        return [
            call_service(f"dask.{service}", [self._key, *args], self._mesh.connections[node])
            for node, args in arguments.items()
        ]

    def _call(self, service: str, arguments: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """Call a service for Dask with arguments for each node; return by node what it returned."""
        commands = self._send(service, arguments)
        try:
            # A look that begins in time is let end, for it tells why there was not enough of it.
            values = Commands(service, commands).result(self.seconds_left + 2 * _LOOK_SECONDS)
        except TimeoutError:
            busy = [command.node for command in commands if not command.done()]
            for command in commands:
                command.cancel()
            raise TimeoutError(
                f"no Dask cluster within {self._plan.timeout:g} s: {self._named(busy)} did not answer; "
                "an engine has to end its commands first"
            ) from None
        return dict(zip(arguments, values or [], strict=True))


def hosts_of(servers: Sequence[Server]) -> dict[int, list[str]]:
    """Return by node the addresses at which processes may listen, the best first.

    That is where the client has reached the server, then what the server says of itself. If some of them are at other
    machines, loopback addresses are of no use to those.
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
