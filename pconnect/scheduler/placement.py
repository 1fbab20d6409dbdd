"""Placement: which servers may run jobs, as decided by a function of the user, and which servers are preferred.

While there are jobs, the servers are asked for their state every few seconds, on the job channels. A server gets no
jobs until it has answered, and while the function rejects it; jobs that run there continue.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pconnect.errors import ConfigurationError
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.remote_worker import RemoteWorker
from pconnect.statistics.server_facts import ServerFacts
from srp_tools.printable import printable_text

EVEN, ORDERED = "even", "ordered"
_ASK_SECONDS = 5.0  # maximum age of a server's facts
_Node = TypeVar("_Node", bound=NodeWorkers)


@dataclass
class _State:
    """What placement knows about one node."""

    asked_at: float = float("-inf")
    is_accepted: bool = False
    why: str = "accept= waits for its server's first report about its state"
    fault: tuple[str, Exception] | None = (
        None  #: the server for which the user's function failed, and the error
    )


class Placement:
    """The placement rules of one network.

    `accept`: takes a `ServerFacts` and returns whether the server may run jobs; ``None`` accepts every server. `order`:
    `EVEN` or `ORDERED`. Raises `ConfigurationError` for other values.
    """

    def __init__(self, accept: object = None, order: str = EVEN) -> None:
        if accept is not None and not callable(accept):
            raise ConfigurationError(
                f"accept={accept!r} is not allowed: give a function of a server's facts, such as "
                "lambda server: server.memory_free > 8e9"
            )
        if order not in {EVEN, ORDERED}:
            raise ConfigurationError(f"placement={order!r} is not allowed: use {EVEN!r} or {ORDERED!r}")
        self._accept: Callable[[ServerFacts], object] | None = accept
        self.is_ordered = order == ORDERED
        self._states: dict[int, _State] = {}
        self._number = 0

    def error(self) -> ConfigurationError | None:
        """Return an error if the user's function fails for a server; as long as it does, all queued jobs fail."""
        faults = [state.fault for _, state in sorted(self._states.items()) if state.fault is not None]
        if not faults:
            return None
        host, cause = faults[0]
        error = ConfigurationError(f"the function given as accept= failed for {host}: {cause!r}")
        error.__cause__ = cause
        return error

    @property
    def has_rule(self) -> bool:
        """Whether some servers may be rejected."""
        return self._accept is not None

    def rank(self, node: NodeWorkers) -> float:
        """Return the rank of a node; the node with the lowest rank is asked for the next worker."""
        return node.number if self.is_ordered else node.wanted / (node.slots or 1)

    def accepts(self, node: int) -> bool:
        """Return whether a node gets jobs at present."""
        return self._accept is None or (node in self._states and self._states[node].is_accepted)

    def accepted(self, nodes: Iterable[_Node]) -> list[_Node]:
        """Return the nodes that get jobs at present."""
        return [node for node in nodes if self.accepts(node.number)]

    def workers(self, workers: Collection[RemoteWorker]) -> Collection[RemoteWorker]:
        """Return the workers that get jobs at present."""
        return workers if self._accept is None else [each for each in workers if self.accepts(each.node)]

    def why(self, node: NodeWorkers) -> str:
        """Return why a node gets no jobs; empty if it gets some."""
        return "" if self.accepts(node.number) else self._states.get(node.number, _State()).why

    def look(self, nodes: Iterable[NodeWorkers], now: float) -> None:
        """Ask the servers whose facts are too old."""
        for node in nodes if self._accept is not None else ():
            state = self._states.setdefault(node.number, _State())
            if node.channel is not None and node.is_ready and now - state.asked_at >= _ASK_SECONDS:
                state.asked_at = now
                self._number += 1
                node.channel.post(Kind.STATISTICS, self._number, {"brief": True})

    def forget(self, node: int) -> None:
        """Forget the facts of a node: its session has ended, or it has a new one."""
        self._states.pop(node, None)

    def take(self, node: NodeWorkers, answer: Mapping[str, Any]) -> None:
        """Process the answer of a server: let the user's function decide."""
        if self._accept is None:
            return
        state, host = self._states.setdefault(node.number, _State()), node.server.host
        state.is_accepted, state.fault = False, None
        if isinstance(error := answer.get("error"), str):
            state.why = f"accept= cannot decide: {printable_text(error)}"
            return
        try:
            facts = ServerFacts.of(host, answer)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            state.why = f"accept= cannot decide: the report of its server is malformed ({error})"
            return
        try:
            verdict = self._accept(facts)
            if verdict is None:
                raise TypeError("it returned None instead of True or False")
            state.is_accepted = bool(verdict)
            state.why = "accept= rejects it"
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            state.why = f"accept= failed for it: {type(error).__name__}: {error}"
            state.fault = host, error
