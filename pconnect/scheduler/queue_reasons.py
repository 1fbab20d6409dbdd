"""Explains why a job is queued. Any thread may call this, while the scheduler changes the data that is read here."""

from collections.abc import Callable, Collection, Iterable, Sequence

from pconnect.errors import shown_source
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.remote_worker import RemoteWorker

_SHOWN_NODES = 4


def why_queued(
    nodes: Sequence[NodeWorkers],
    workers: Collection[RemoteWorker],
    now: float,
    why_refused: Callable[[NodeWorkers], str] = lambda _: "",
) -> str:
    """Return the obstacle at each of the nodes where a job may run.

    `workers`: all workers of the network. `why_refused`: returns why a node gets no jobs although it has slots.
    """
    reasons = [
        f"{node}: {(node.is_ready and why_refused(node)) or _reason(node, workers, now)}"
        for node in nodes[:_SHOWN_NODES]
    ]
    more = len(nodes) - _SHOWN_NODES
    return "; ".join([*reasons, *([f"and {more} more nodes"] if more > 0 else [])])


def describe_silent(nodes: Iterable[NodeWorkers], numbers: Collection[int]) -> str:
    """Return the nodes, as text, that have not reported their number of slots."""
    return ", ".join(str(node) for node in nodes if node.number in numbers and node.slots is None)


def describe_unable(nodes: Iterable[NodeWorkers], able: Collection[int]) -> str:
    """Return why all nodes except the able ones can run nothing."""
    unable = [node for node in nodes if node.number not in able]
    return "; ".join(f"{node}: {node.gone or 'its server offers no slots'}" for node in unable)


def _reason(node: NodeWorkers, workers: Collection[RemoteWorker], now: float) -> str:
    if node.gone:
        return node.gone
    if node.channel is None or node.slots is None:
        return "its server has not reported yet how many slots it has"
    if not node.slots and node.has_offered:
        return "its server offers no slots at present"
    own = [worker for worker in workers if worker.node == node.number]
    if any(not worker.is_open for worker in own) or not (own or node.has_been_late(now)):
        return "a worker is being started" if node.slots else "its server offers no slots"
    return f"all of its {len(own)} workers are busy with other jobs" if own else _shortage(node, workers)


def _shortage(node: NodeWorkers, workers: Collection[RemoteWorker]) -> str:
    """Return why a node has not got its first worker."""
    running = sorted(node.server.running.copy().items())
    if running:
        source = shown_source(running[0][1].source)
        return f"its engine is busy with command {source!r}; its first worker starts when the engine is idle"
    others = sum(worker.server.location.server == node.server.location.server for worker in workers)
    words = f"no slot is free: its server has {node.slots}, of which other nodes of this network use {others}"
    if others >= (node.slots or 0):
        return words
    return (
        f"{words}; other networks use the rest, one of them has exclusive use of the server, or it starts no jobs now "
        "(it is drained, or outside of its hours)"
    )
