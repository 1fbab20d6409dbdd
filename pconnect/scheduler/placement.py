"""Where jobs go: to which servers at all, as a function of the user says, and to which first.

The servers are asked how they are on the job channels, every few seconds while there are jobs. Until a server has
answered, and while the function says no, it gets no jobs; those that run there go on.
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
_ASK_SECONDS = 5.0  # how old the facts of a server may be
_Node = TypeVar("_Node", bound=NodeWorkers)


@dataclass
class _State:
    """What is known of one node."""

    asked_at: float = float("-inf")
    is_accepted: bool = False
    why: str = "its server has not said yet how it is, which accept= wants to know"
    fault: tuple[str, Exception] | None = None  #: of the user's function: for which server, and what


class Placement:
    """The rules of one network.

    `accept`: takes a `ServerFacts` and returns whether jobs may run there; ``None``: they may run at all. `order`:
    `EVEN` or `ORDERED`. Raises `ConfigurationError` if either is something else.
    """

    def __init__(self, accept: object = None, order: str = EVEN) -> None:
        if accept is not None and not callable(accept):
            raise ConfigurationError(
                f"accept={accept!r}: it must be a function that takes a server's facts, such as "
                "lambda server: server.memory_free > 8e9"
            )
        if order not in {EVEN, ORDERED}:
            raise ConfigurationError(f"placement={order!r}: it must be {EVEN!r} or {ORDERED!r}")
        self._accept: Callable[[ServerFacts], object] | None = accept
        self.is_ordered = order == ORDERED
        self._states: dict[int, _State] = {}
        self._number = 0

    def error(self) -> ConfigurationError | None:
        """Return what is wrong with the user's function, as long as it is for one server: all jobs that wait fail."""
        faults = [state.fault for _, state in sorted(self._states.items()) if state.fault is not None]
        if not faults:
            return None
        host, cause = faults[0]
        error = ConfigurationError(f"the function given as accept= failed for {host}: {cause!r}")
        error.__cause__ = cause
        return error

    @property
    def has_rule(self) -> bool:
        """Whether some servers may get no jobs."""
        return self._accept is not None

    def rank(self, node: NodeWorkers) -> float:
        """Return which node is asked for the next worker: that with the lowest rank."""
        return node.number if self.is_ordered else node.wanted / (node.slots or 1)

    def accepts(self, node: int) -> bool:
        """Whether a node gets jobs now."""
        return self._accept is None or (node in self._states and self._states[node].is_accepted)

    def accepted(self, nodes: Iterable[_Node]) -> list[_Node]:
        """Return the nodes that get jobs now."""
        return [node for node in nodes if self.accepts(node.number)]

    def workers(self, workers: Collection[RemoteWorker]) -> Collection[RemoteWorker]:
        """Return the workers that get jobs now."""
        return workers if self._accept is None else [each for each in workers if self.accepts(each.node)]

    def why(self, node: NodeWorkers) -> str:
        """Return why a node gets no jobs; empty if it does."""
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
        """Forget what is known of a node: its session has ended, or it has another one."""
        self._states.pop(node, None)

    def take(self, node: NodeWorkers, answer: Mapping[str, Any]) -> None:
        """Take the answer of a server, and let the user's function decide."""
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
            state.why = f"accept= cannot decide: what its server says of itself makes no sense ({error})"
            return
        try:
            verdict = self._accept(facts)
            if verdict is None:
                raise TypeError("it returned None, not True or False")
            state.is_accepted = bool(verdict)
            state.why = "accept= says no"
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            state.why = f"accept= failed for it: {type(error).__name__}: {error}"
            state.fault = host, error
