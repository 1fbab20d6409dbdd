"""The statistics of the servers of a network: `pconnect.views.job_views.JobView.statistics`."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pconnect.commands.table import Table
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh, ask
from pconnect.session.server import Server
from pconnect.statistics.document import HEADINGS, row_of
from pconnect.statistics.worker_table import worker_table
from srp_tools.steps import deadline_after

_SILENT = "does not answer"
_BRIEF = {"brief": True}  # without samples and timeline


class Statistics(Table):
    """A table with a row for each server; it prints aligned, and a notebook shows it as an HTML table.

    The figures are those of the last `update`, or of the creation of the table.

    Attributes
    ----------
    documents
        The document of each server, by host; ``None`` for a server that has never answered. See
        :doc:`/reference/statistics`.

    Examples
    --------
    >>> from pconnect import local_network
    >>> with local_network(2) as net:
    ...     results = list(net.map(abs, range(20)))
    ...     table = net.statistics()
    ...     len(table), table.headings[:3], [row[-1] for row in table]
    (1, ['name', 'ping age (s)', 'processed'], ['open'])
    """

    def __init__(self, mesh: ClientMesh, nodes: Callable[[], Sequence[int]], timeout: float) -> None:
        self._mesh = mesh
        self._nodes = nodes  # a function, because the network may gain and lose nodes
        self.documents: dict[str, dict[str, Any] | None] = {}
        super().__init__(HEADINGS, [])
        self.update(timeout=timeout)

    def update(self, *, timeout: float = 5.0) -> "Statistics":
        """Ask all servers again at the same time, and return this table.

        The table of a whole network has the present servers, including added ones and without removed ones.

        Parameters
        ----------
        timeout
            Seconds to wait for the answers, which do not depend on the work of engines and workers. A server that does
            not answer in time keeps its last figures, and its state says so.
        """
        servers = _one_of_each(
            [self._mesh.servers[node] for node in self._nodes() if node in self._mesh.servers]
        )
        asked_at = time.monotonic()
        answers = _ask(self._mesh, servers, {server.node: _BRIEF for server in servers}, timeout)
        self._rows = []
        self.documents = {server.host: self.documents.get(server.host) for server in servers}
        for server in servers:
            answer = answers.get(
                server.node, {"error": _SILENT if server.command.error is None else server.state}
            )
            if "error" not in answer:
                server.last_reply_at = time.monotonic()
                self.documents[server.host] = answer
            elif healing := self._mesh.growth.healing.get(server.node):
                answer["error"] = f"{answer['error']}; {healing}"
            document = self.documents[server.host]
            at = server.last_reply_at
            age = None if at is None else asked_at - at
            self._rows.append(row_of(server.host, age, document, str(answer.get("error", ""))))
        return self

    def workers(self, *, timeout: float = 5.0) -> Table:
        """Return the work of this network's workers: for each node, and for each of its slots in use.

        A node has one row for the sum over all its past and present workers, and one row for each present worker. The
        headings name the units; ``running`` is the number of running jobs, or for a slot the time its job has been
        running.
        """
        return worker_table(self._mesh, self._nodes(), timeout)

    def to_dict(self) -> dict[str, dict[str, Any] | None]:
        """Return a copy of the documents of the servers, by host."""
        copied: dict[str, dict[str, Any] | None] = json.loads(self.to_json())
        return copied

    def to_json(self) -> str:
        """Return the documents of the servers as JSON."""
        return json.dumps(self.documents)


def _one_of_each(servers: Sequence[Server]) -> list[Server]:
    """Return one node for each server, if possible one that can be asked."""
    chosen: dict[object, Server] = {}
    for server in servers:
        where = server.location.address, server.location.cmd_port
        if where not in chosen or chosen[where].command.error:
            chosen[where] = server
    return list(chosen.values())


def ask_servers(
    mesh: ClientMesh, nodes: Sequence[int], since: Mapping[str, float], timeout: float
) -> dict[str, dict[str, Any]]:
    """Return for each host the server's ``document``, or the ``error`` that explains why there is none.

    Documents have samples and timelines, for each host from the instant in `since` on, or all of them.
    """
    servers = _one_of_each([mesh.servers[node] for node in nodes if node in mesh.servers])
    wanted = {
        server.node: {"since": since[server.host]} if server.host in since else {} for server in servers
    }
    answers = _ask(mesh, servers, wanted, timeout)
    found: dict[str, dict[str, Any]] = {}
    for server in servers:
        answer = answers.get(
            server.node, {"error": _SILENT if server.command.error is None else server.state}
        )
        found[server.host] = {"error": str(answer["error"])} if "error" in answer else {"document": answer}
    return found


def _ask(
    mesh: ClientMesh, servers: Sequence[Server], wanted: Mapping[int, Mapping[str, object]], timeout: float
) -> Mapping[int, dict[str, Any]]:
    """Return the answers by node, without servers that gave none; `wanted`: by node, the parts of the document."""
    mesh.check_open()
    answers = ask(
        servers,
        mesh.event_loop,
        Kind.STATISTICS,
        mesh.next_number,
        deadline_after(timeout),
        value_for=lambda server: dict(wanted[server.node]),
    )
    for server in servers:
        for key in [
            key for key in server.answers if key[0] is Kind.STATISTICS
        ]:  # late answers to earlier questions
            del server.answers[key]
    if mesh.growth.healing and mesh.scheduler is not None:
        again = mesh.scheduler.changes.ask(
            Kind.STATISTICS, mesh.next_number(), lambda node: dict(wanted.get(node, _BRIEF)), timeout
        )
        answers |= {server.node: again[server.node] for server in servers if server.node in again}
    return answers
