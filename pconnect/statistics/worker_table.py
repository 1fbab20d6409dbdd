"""What the workers of a network have done, as a table."""

import time
from collections.abc import Sequence
from typing import Any

from pconnect.commands.table import Table
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh

HEADINGS = (
    "node", "host", "slot", "ping age (s)", "processed (jobs)", "processing time (s)", "avg. process time (s)",
    "avg. transfer time (s)", "running (jobs or s)", "load",
)  # fmt: skip


def worker_table(mesh: ClientMesh, nodes: Sequence[int], timeout: float) -> Table:
    """Return what the workers of nodes have done; see `pconnect.statistics.server_table.Statistics.workers`."""
    asked_at = time.monotonic()
    answers = mesh.query(timeout)
    if mesh.growth.healing and mesh.scheduler is not None:
        again = mesh.scheduler.changes.ask(Kind.QUERY, mesh.next_number(), None, timeout)
        answers |= {node: (facts, 0.0) for node, facts in again.items()}
    rows: list[list[object]] = []
    for node in [node for node in nodes if node in mesh.servers]:
        server = mesh.servers[node]
        if node in answers:
            server.last_reply_at = time.monotonic()
        age = None if server.last_reply_at is None else round(max(0.0, asked_at - server.last_reply_at), 3)
        live = answers.get(node, (server.live, 0.0))[0]
        jobs: dict[str, Any] = live.get("jobs") or {"workers": [], "ended": [0, 0.0, 0.0]}
        done = [jobs["ended"], *(worker[2:5] for worker in jobs["workers"])]
        sums = [sum(column) for column in zip(*done, strict=True)]
        running = sum(worker[5] is not None for worker in jobs["workers"])
        load = live.get("load")
        rows.append([node, server.host, "all", age, *_times(*sums), running, load and round(load, 2)])
        for number, (_, _, *facts, seconds) in enumerate(jobs["workers"], 1):
            shown = None if seconds is None else round(seconds, 3)
            rows.append([node, server.host, str(number), age, *_times(*facts), shown, None])
    return Table(HEADINGS, rows)


def _times(count: int, seconds: float, transfer: float) -> list[object]:
    average = [round(total / count, 6) if count else None for total in (seconds, transfer)]
    return [count, round(seconds, 3), *average]
