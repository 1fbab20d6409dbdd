"""Find programs on the nodes, and compare their versions and files."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from pconnect.commands.table import Table
from pconnect.link.connection import Connection
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.programs.machine import Found, find_programs
from pconnect.session.remote_calls import call_service
from pconnect.session.versions import VersionWarning

_DIGITS = 12  # the number of digits shown of a digest


@dataclass(frozen=True, repr=False)
class ProgramsThere:
    """The paths and versions of programs on the nodes. It prints as a table.

    Attributes
    ----------
    table
        By number of the node, then by name of the program: its path, its version, and the SHA-256 of its file; ``None``
        if the node does not have it.
    hosts
        The hosts of the nodes, by number.
    """

    table: dict[int, dict[str, Found]]
    hosts: dict[int, str]

    @property
    def missing(self) -> list[str]:
        """The programs that are missing on a server."""
        return [
            name for name in self._names() if None in [self.table[node][name] for node in self.table if node]
        ]

    @property
    def differing(self) -> list[str]:
        """The programs whose version or file differs between nodes. Different folders do not matter."""
        return [
            name
            for name in self._names()
            if len({found[1:] for column in self.table.values() if (found := column[name])}) > 1
        ]

    @property
    def warning(self) -> str:
        """A warning about differences; ``""`` if there are none."""
        parts = []
        if self.differing:
            parts.append(f"not the same on all nodes: {', '.join(self.differing)}")
        if self.missing:
            parts.append(f"not on all nodes: {', '.join(self.missing)}")
        return "; ".join(parts)

    def _names(self) -> list[str]:
        return list(next(iter(self.table.values()), {}))

    def __str__(self) -> str:
        return str(self._shown())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self._shown()._repr_html_()

    def _shown(self) -> Table:
        rows: list[list[object]] = []
        for name in self._names():
            for node, column in self.table.items():
                path, version, digest = column[name] or ("not found", None, None)
                shown = None if digest is None else digest.hex()[:_DIGITS]
                rows.append([name, node, self.hosts[node] if node else "client", path, version, shown])
        return Table(["program", "node", "host", "path", "version", "sha256"], rows)


def which(connections: Connections, names: Sequence[str], *, timeout: float | None = None) -> ProgramsThere:
    """Find programs on nodes; see `pconnect.views.program_views.ProgramView.which`."""
    mesh, targets = resolve(connections)
    members = [connections] if isinstance(connections, Connection) else list(connections)
    commands = call_service("programs.find", [list(names)], targets, shown_as=f"which {' '.join(names)}")
    table: dict[int, dict[str, Found]] = {}
    if any(member.is_own for member in members):
        table[mesh.node] = find_programs(names)
    try:
        answers = commands.result(timeout)
    except TimeoutError:
        commands.cancel()
        raise
    for target, answer in zip(targets, answers or [], strict=True):
        table[target.node] = {name: _found(answer.get(name)) for name in names}
    return ProgramsThere(dict(sorted(table.items())), {member.node: member.host for member in members})


def warn_of_differences(there: ProgramsThere, *, stacklevel: int) -> None:
    """Warn if nodes have different programs. `stacklevel`: as for `warnings.warn`, relative to this function."""
    if there.warning:
        warnings.warn(f"{there.warning}\n{there}", VersionWarning, stacklevel=stacklevel)


def _found(answer: object) -> Found:
    """Validate a node's answer; return ``None`` if it is invalid or the program was not found."""
    if not isinstance(answer, list | tuple) or len(answer) != 3 or not isinstance(answer[0], str):
        return None
    path, version, digest = answer
    shown = " ".join(version.split()) if isinstance(version, str) else None
    return path, shown, bytes(digest) if isinstance(digest, bytes) else None
