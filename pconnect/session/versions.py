"""What Python, packages and machine each node has, and which differences between nodes matter.

Every engine tells its versions when the network is made; its starter has read them once. So the check costs no
message. Packages that are asked for later are looked up on the engines then.
"""

import functools
import importlib.metadata
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pconnect.commands.table import Table
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.session.remote_calls import call_service, client_mesh
from pconnect.session.server import Server

#: Packages whose versions every node tells, by the names that pip has for them.
PACKAGES = ("numpy", "scipy", "pandas", "pyarrow", "cloudpickle", "msgpack", "matplotlib")

_MAX_CELL_CHARACTERS = 40


class VersionWarning(UserWarning):
    """Nodes of a network differ in a version that matters; the text has a table of those."""


@dataclass(frozen=True)
class _Rule:
    """When a difference matters: where this part of the text differs. And what then may go wrong."""

    part: Callable[[str], object]
    affects: str


def _major(version: str) -> object:
    return version.partition(".")[0]


def _minor(version: str) -> object:
    """Return what CPython's byte code depends on: the implementation, major and minor version."""
    return re.sub(r"(\d+\.\d+).*", r"\1", version)


_RULES = {
    "Python": _Rule(_minor, "functions that are sent"),
    "pserver": _Rule(str, "calls that one side lacks"),
    "byte order": _Rule(str, "speed of arrays from elsewhere"),
    "numpy": _Rule(_major, "functions and pickled arrays"),
    "pandas": _Rule(_major, "data frames that are sent"),
    "pyarrow": _Rule(_major, "tables that are sent"),
    "cloudpickle": _Rule(_major, "functions that are sent"),
}


def installed(names: Iterable[str]) -> dict[str, str | None]:
    """Return the versions of packages here; ``None`` for one that is not installed."""
    return {
        name: next((found.version for found in importlib.metadata.distributions(name=name)), None)
        for name in names
    }


@functools.cache
def own_versions() -> Mapping[str, Any]:
    """Return what a node tells of itself, looked up once in a process; doc/protocol.md has the names."""
    packages = installed(["pserver", *PACKAGES])
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "version": packages.pop("pserver"),
        "numpy": packages["numpy"],
        "system": platform.system(),
        "machine": platform.machine(),
        "libc": _libc(),
        "byte_order": sys.byteorder,
        "packages": packages,
    }


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):  # not on this platform
        return None


@dataclass(frozen=True, repr=False)
class Versions:
    """Versions of all nodes; it prints as an aligned table, with a ``*`` where nodes differ.

    Nodes that have the same of everything share a column. What a node lacks is shown as ``-``.
    """

    #: For each node by number, the versions by what they are of; ``None`` for what is missing there.
    table: dict[int, dict[str, str | None]]
    hosts: dict[int, str]

    @property
    def differing(self) -> list[str]:
        """Of what the nodes have different versions."""
        return [
            name for name in self._names() if len({column.get(name) for column in self.table.values()}) > 1
        ]

    def __str__(self) -> str:
        return str(self._shown())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._shown()._repr_html_()

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for column in self.table.values() for name in column))

    def _shown(self) -> Table:
        names, differing = self._names(), set(self.differing)
        headings, columns = self.columns(names)
        rows = [[name, *(_text(column.get(name)) for column in columns)] for name in names]
        if differing:
            headings = ["", *headings]
            rows = [["*" if row[0] in differing else "", *row] for row in rows]
        return Table(["", *headings], rows)

    def columns(self, names: Sequence[str]) -> tuple[list[str], list[dict[str, str | None]]]:
        """Return headings and columns, one for all nodes that have the same of these."""
        groups: dict[tuple[str | None, ...], list[int]] = {}
        for node, column in self.table.items():
            groups.setdefault(tuple(column.get(name) for name in names), []).append(node)
        headings = [
            ("client" if nodes[0] == 0 else f"{nodes[0]} {self.hosts[nodes[0]]}")
            if len(nodes) == 1
            else f"nodes {_ranges(nodes)}"
            for nodes in groups.values()
        ]
        return headings, [self.table[nodes[0]] for nodes in groups.values()]


def versions(
    connections: Connections, packages: Iterable[str] | None = None, *, timeout: float = 10.0
) -> Versions:
    """Ask nodes which versions they have.

    Parameters
    ----------
    connections
        A network, a part of one, or a single connection; the client belongs to it if node 0 does.
    packages
        Names of packages, as pip has them; only these are reported. Without it, all that matters here: Python, this
        package, system and libc, and those in `PACKAGES`.
    timeout
        Seconds in which the engines have to end what they are doing, and to answer.

    Raises
    ------
    ConfigurationError
        It was called inside an engine.
    RemoteError, ConnectionLostError, ExceptionGroup, TimeoutError
        As of a command.

    Examples
    --------
    >>> from pconnect import local_network
    >>> from pconnect.session.versions import versions
    >>> with local_network(2) as net:
    ...     print(versions(net, ["no-such-package"]))
                     nodes 0-2
    no-such-package  -
    """
    mesh, targets = resolve(connections)
    servers = client_mesh(mesh).servers
    members = [connections] if isinstance(connections, Connection) else list(connections)
    names = list(PACKAGES if packages is None else packages)
    table: dict[int, dict[str, str | None]] = {}
    if any(member.is_own for member in members):
        table[mesh.node] = installed(names)
    commands = call_service("versions.installed", [names], targets)
    try:
        answers = commands.result(timeout)
    except TimeoutError:
        commands.cancel()
        raise
    table |= {target.node: answer for target, answer in zip(targets, answers or [], strict=True)}
    if packages is None:
        for node in table:
            facts = servers[node].facts if node in servers else own_versions()
            table[node] = _of_node(facts) | table[node]
    return Versions(dict(sorted(table.items())), {member.node: member.host for member in members})


def foreign_pythons(servers: Iterable[Server]) -> dict[int, str]:
    """Return which nodes run another Python than the client, whose byte code is another; in words, by node."""
    own = _minor(_python(own_versions()))
    pythons = {server: _python(server.facts) for server in servers}
    return {
        server.node: f"node {server.node} ({server.host}) has {_text(python)}"
        for server, python in pythons.items()
        if python and _minor(python) != own
    }


def check_versions(network: Network, *, stacklevel: int = 2) -> None:
    """Warn, once, if nodes differ in what matters; for the client, from what was told when the network was made.

    Warns
    -----
    VersionWarning
        The text has a table of just these versions, and what each may affect. ``stacklevel`` is that of
        `warnings.warn`, seen from here.
    """
    servers = client_mesh(network.mesh).servers
    facts = {0: own_versions()} | {node: server.facts for node, server in servers.items()}
    told = Versions(
        {node: _of_node(fact) | _of_packages(fact) for node, fact in facts.items()},
        {node: server.host for node, server in servers.items()},
    )
    names = [name for name in _RULES if _matters(name, told.table.values())]
    if not names:
        return
    headings, columns = told.columns(names)
    rows = [[name, *(_text(column.get(name)) for column in columns), _RULES[name].affects] for name in names]
    table = Table(["", *headings, "may affect"], rows)
    warnings.warn(
        f"nodes of this network have different versions:\n{table}\n"
        "(net.versions() shows all; pconnect(..., check_versions=False) does not look)",
        VersionWarning,
        stacklevel=stacklevel,
    )


def _matters(name: str, columns: Iterable[Mapping[str, str | None]]) -> bool:
    """Return whether nodes that have this have it differently; a missing package is reported where it is needed."""
    there = {version for column in columns if (version := column.get(name)) is not None}
    return len({_RULES[name].part(version) for version in there}) > 1


def _of_node(facts: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the part of the facts that is not of packages, as it is shown."""
    return {
        "Python": _python(facts) or None,
        "pserver": _joined(facts, "version"),
        "system": _joined(facts, "system", "machine"),
        "libc": _joined(facts, "libc"),
        "byte order": _joined(facts, "byte_order"),
    }


def _python(facts: Mapping[str, Any]) -> str:
    """Return implementation and version; empty if it was not told."""
    python = _joined(facts, "python")
    return f"{_joined(facts, 'implementation') or 'CPython'} {python}" if python else ""


def _of_packages(facts: Mapping[str, Any]) -> dict[str, str | None]:
    packages = facts.get("packages")
    return {name: _joined(packages, name) if isinstance(packages, dict) else None for name in PACKAGES}


def _joined(facts: Mapping[str, Any], *keys: str) -> str | None:
    """Return some facts as one text; what is no text was not told."""
    return " ".join(value for key in keys if isinstance(value := facts.get(key), str)) or None


def _text(version: str | None) -> str:
    """Return what stands in a cell: one line, whatever a server tells."""
    return "-" if version is None else " ".join(str(version).split())[:_MAX_CELL_CHARACTERS]


def _ranges(nodes: Sequence[int]) -> str:
    """Return numbers in few characters.

    Examples
    --------
    >>> _ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    ranges: list[list[int]] = []
    for node in nodes:
        if ranges and ranges[-1][1] == node - 1:
            ranges[-1][1] = node
        else:
            ranges.append([node, node])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
