"""A table of the work of a network's workers."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from pconnect.commands.table import Table
from pconnect.protocol.kinds import Kind
from pconnect.session.client_mesh import ClientMesh

HEADINGS = (
    "node", "host", "slot", "ping age (s)", "processed (jobs)", "processing time (s)", "avg. process time (s)",
    "avg. transfer time (s)", "running (jobs or s)", "load", "failed (jobs)", "lost (jobs)", "processed (programs)",
    "failed (programs)", "lost (programs)", "avg. queue time (s)", "received (MB)", "sent (MB)",
)  # fmt: skip
_MEGA = 1e6


def worker_table(mesh: ClientMesh, nodes: Sequence[int], timeout: float) -> Table:
    """Return the work of the workers of some nodes; see `pconnect.statistics.server_table.Statistics.workers`."""
    asked_at = time.monotonic()
    answers = mesh.query(timeout)
    if mesh.growth.healing and mesh.scheduler is not None:
        again = mesh.scheduler.changes.ask(Kind.QUERY, mesh.next_number(), lambda _: None, timeout)
        answers |= {node: (facts, 0.0) for node, facts in again.items()}
    rows: list[list[object]] = []
    for node in [node for node in nodes if node in mesh.servers]:
        server = mesh.servers[node]
        if node in answers:
            server.last_reply_at = time.monotonic()
        age = None if server.last_reply_at is None else round(max(0.0, asked_at - server.last_reply_at), 3)
        live = answers.get(node, (server.live, 0.0))[0]
        jobs: dict[str, Any] = live.get("jobs") or {"workers": [], "ended": {}}
        running = sum(seconds is not None for *_, seconds in jobs["workers"])
        load = live.get("load")
        all_done = [jobs["ended"], *(done for _, _, done, _ in jobs["workers"])]
        rows.append([node, server.host, "all", age, *_counts(all_done, running, load and round(load, 2))])
        for number, (_, _, done, seconds) in enumerate(jobs["workers"], 1):
            shown = None if seconds is None else round(seconds, 3)
            rows.append([node, server.host, str(number), age, *_counts([done], shown, None)])
    return Table(HEADINGS, rows)


def _counts(parts: Sequence[Mapping[str, float]], running: float | None, load: float | None) -> list[object]:
    """Return the cells from the number of processed jobs on; `parts`: counters of workers, which are added up."""

    def total(*names: str) -> float:
        return sum(done.get(name, 0) for done in parts for name in names)

    jobs, programs = (total(f"{what}_done", f"{what}_failed") for what in ("jobs", "programs"))
    ended = jobs + programs
    process, transfer, queue = (
        round(total(f"{what}_seconds") / ended, 6) if ended else None
        for what in ("processing", "transfer", "queue")
    )
    lost = [[total(f"{what}_{how}") for how in ("failed", "lost")] for what in ("jobs", "programs")]
    sizes = [round(total(f"bytes_{way}") / _MEGA, 3) for way in ("in", "out")]
    seconds = round(total("processing_seconds"), 3)
    return [jobs, seconds, process, transfer, running, load, *lost[0], programs, *lost[1], queue, *sizes]
