"""Why a job waits in the queue, in words. Any thread may ask: others change meanwhile what is looked at here."""

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
    """Return what stands in the way at each of some nodes, at which a job may run.

    `workers`: all those of the network. `why_refused`: returns why a node gets no jobs, though it has slots.
    """
    reasons = [
        f"{node}: {(node.is_ready and why_refused(node)) or _reason(node, workers, now)}"
        for node in nodes[:_SHOWN_NODES]
    ]
    more = len(nodes) - _SHOWN_NODES
    return "; ".join([*reasons, *([f"and {more} nodes more"] if more > 0 else [])])


def describe_silent(nodes: Iterable[NodeWorkers], numbers: Collection[int]) -> str:
    """Return which of some nodes have not said how many slots they have."""
    return ", ".join(str(node) for node in nodes if node.number in numbers and node.slots is None)


def describe_unable(nodes: Iterable[NodeWorkers], able: Collection[int]) -> str:
    """Return why all nodes but some can run nothing."""
    unable = [node for node in nodes if node.number not in able]
    return "; ".join(f"{node}: {node.gone or 'its server offers no slots'}" for node in unable)


def _reason(node: NodeWorkers, workers: Collection[RemoteWorker], now: float) -> str:
    if node.gone:
        return node.gone
    if node.channel is None or node.slots is None:
        return "its server has not said yet how many slots it has"
    if not node.slots and node.has_offered:
        return "its server offers no slots for the time being"
    own = [worker for worker in workers if worker.node == node.number]
    if any(not worker.is_open for worker in own) or not (own or node.has_been_late(now)):
        return "a worker is being started" if node.slots else "its server offers no slots"
    return f"all of its workers have other jobs ({len(own)})" if own else _shortage(node, workers)


def _shortage(node: NodeWorkers, workers: Collection[RemoteWorker]) -> str:
    """Return why a node gets no first worker."""
    running = sorted(node.server.running.copy().items())
    if running:
        source = shown_source(running[0][1].source)
        return f"its engine is busy with command {source!r}, and a first worker starts when it is idle"
    others = sum(worker.server.location.server == node.server.location.server for worker in workers)
    words = (
        f"no slot is free: its server has {node.slots}, of which other nodes of this network have {others}"
    )
    if others >= (node.slots or 0):
        return words
    return f"{words}; other networks have the rest, or one of them has the server for itself"
