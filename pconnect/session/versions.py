"""The versions of Python, packages and the machine on each node, and which differences matter.

Every engine reports its versions when the network is made; the process that started it has read them once. So the check
costs no message. Other packages are looked up on the engines on request.
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

#: Packages whose versions every node reports, by their pip names.
PACKAGES = ("numpy", "scipy", "pandas", "pyarrow", "cloudpickle", "msgpack", "matplotlib")

_MAX_CELL_CHARACTERS = 40


class VersionWarning(UserWarning):
    """Nodes of a network differ in versions that matter; the text has a table of them."""


@dataclass(frozen=True)
class _Rule:
    """When a difference matters: if this part of the version differs. And what it may affect."""

    part: Callable[[str], object]
    affects: str


def _major(version: str) -> object:
    return version.partition(".")[0]


def _minor(version: str) -> object:
    """Return the parts that CPython's byte code depends on: the implementation, major and minor version."""
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
    """Return the versions of packages installed here; ``None`` for a missing package."""
    return {
        name: next((found.version for found in importlib.metadata.distributions(name=name)), None)
        for name in names
    }


@functools.cache
def own_versions() -> Mapping[str, Any]:
    """Return the facts that a node reports about itself, collected once in a process; doc/protocol.md has the names."""
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
    """Versions on all nodes; it prints as an aligned table, with a ``*`` where nodes differ.

    Nodes with the same versions share a column. A missing package is shown as ``-``.
    """

    #: For each node by number, the versions by name; ``None`` for missing packages.
    table: dict[int, dict[str, str | None]]
    hosts: dict[int, str]

    @property
    def differing(self) -> list[str]:
        """The names whose versions differ between nodes."""
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
        """Return headings and columns, one for each group of nodes with the same versions."""
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
    """Return the versions on some nodes.

    Parameters
    ----------
    connections
        A network, a part of one, or a single connection; the client is included if node 0 is.
    packages
        Names of packages, as in pip; only these are reported. By default, everything that matters: Python, this
        package, system and libc, and `PACKAGES`.
    timeout
        Seconds for the engines to finish their commands and answer.

    Raises
    ------
    ConfigurationError
        The call was made inside an engine.
    RemoteError, ConnectionLostError, ExceptionGroup, TimeoutError
        As for a command.

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
    """Return the nodes whose Python, and so its byte code, differs from the client's; as text, by node."""
    own = _minor(_python(own_versions()))
    pythons = {server: _python(server.facts) for server in servers}
    return {
        server.node: f"node {server.node} ({server.host}) has {_text(python)}"
        for server, python in pythons.items()
        if python and _minor(python) != own
    }


def check_versions(network: Network, *, stacklevel: int = 2) -> None:
    """Warn once if nodes differ in versions that matter; uses the engines' reports from when the network was made.

    Warns
    -----
    VersionWarning
        The text has a table of these versions and what each may affect. ``stacklevel`` is that of `warnings.warn`,
        relative to this function.
    """
    servers = client_mesh(network.mesh).servers
    facts = {0: own_versions()} | {node: server.facts for node, server in servers.items()}
    reported = Versions(
        {node: _of_node(fact) | _of_packages(fact) for node, fact in facts.items()},
        {node: server.host for node, server in servers.items()},
    )
    names = [name for name in _RULES if _matters(name, reported.table.values())]
    if not names:
        return
    headings, columns = reported.columns(names)
    rows = [[name, *(_text(column.get(name)) for column in columns), _RULES[name].affects] for name in names]
    table = Table(["", *headings, "may affect"], rows)
    warnings.warn(
        f"nodes of this network have different versions:\n{table}\n"
        "(net.versions() shows all; pconnect(..., check_versions=False) skips this check)",
        VersionWarning,
        stacklevel=stacklevel,
    )


def _matters(name: str, columns: Iterable[Mapping[str, str | None]]) -> bool:
    """Return whether nodes that have the package disagree on its version; a missing package is reported on use."""
    there = {version for column in columns if (version := column.get(name)) is not None}
    return len({_RULES[name].part(version) for version in there}) > 1


def _of_node(facts: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the facts that do not concern packages, for display."""
    return {
        "Python": _python(facts) or None,
        "pserver": _joined(facts, "version"),
        "system": _joined(facts, "system", "machine"),
        "libc": _joined(facts, "libc"),
        "byte order": _joined(facts, "byte_order"),
    }


def _python(facts: Mapping[str, Any]) -> str:
    """Return implementation and version; empty if the node did not report them."""
    python = _joined(facts, "python")
    return f"{_joined(facts, 'implementation') or 'CPython'} {python}" if python else ""


def _of_packages(facts: Mapping[str, Any]) -> dict[str, str | None]:
    packages = facts.get("packages")
    return {name: _joined(packages, name) if isinstance(packages, dict) else None for name in PACKAGES}


def _joined(facts: Mapping[str, Any], *keys: str) -> str | None:
    """Join some facts into one text; facts that are not strings are left out."""
    return " ".join(value for key in keys if isinstance(value := facts.get(key), str)) or None


def _text(version: str | None) -> str:
    """Return the text of a cell: one line, whatever a server reports."""
    return "-" if version is None else " ".join(str(version).split())[:_MAX_CELL_CHARACTERS]


def _ranges(nodes: Sequence[int]) -> str:
    """Return numbers in a compact form.

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
