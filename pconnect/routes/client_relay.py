"""The client as the relay of two engines when no server can be one; it runs in the client's loop, and only with it."""

import functools
import math
import socket
from collections.abc import Callable, Mapping, Sequence

from pconnect.link.dialing import dial
from pconnect.link.race import Place
from pconnect.protocol.frames import Preamble, Purpose
from pconnect.routes.pump import pump
from srp_tools.channel import Channel
from srp_tools.steps import Steps, Task, TaskRunner

#: Maximum number of pairs of nodes that one process relays; each needs eight descriptors.
MOST_PAIRS = 256


def dial_leg(
    places: Sequence[Place], network: tuple[bytes, bytes], nodes: tuple[int, int], peer_timeout: float
) -> Steps[Channel]:
    """Dial a node on behalf of another one, and return the connection once its engine has accepted it.

    `network`: its id and its key. `nodes`: the dialed one, and the other.
    """
    (network_id, key), (node, other) = network, nodes
    return dial(places, Preamble(Purpose.RELAYED, network_id, other, node, key=key), None, peer_timeout)


def splice(background: TaskRunner, first: socket.socket, second: socket.socket) -> None:
    """Forward data between two connections, in both directions, until both have ended; then close them.

    Raises `OSError` if the system lacks the resources; the connections are closed.
    """
    twins: list[socket.socket] = []
    try:
        twins.extend(sock.dup() for sock in (first, second))  # one descriptor for each wait
    except OSError:
        for sock in (first, second, *twins):
            sock.close()
        raise
    tasks: list[Task] = []
    ended: list[object] = []

    def close() -> None:
        for sock in (first, second, *twins):
            sock.close()

    def end(outcome: object) -> None:
        ended.append(outcome)
        if isinstance(outcome, Exception) or len(ended) == 2:
            for task in tasks:
                background.cancel(task)
            close()

    for source, target in ((first, twins[1]), (second, twins[0])):
        if not any(isinstance(outcome, Exception) for outcome in ended):
            tasks.append(background.start(_pump(source, target, close), math.inf, end))


def _pump(source: socket.socket, target: socket.socket, close: Callable[[], object]) -> Steps[int]:
    """Pump; close everything if the loop ends first."""
    try:
        return (yield from pump(source, target))
    except GeneratorExit:
        close()
        raise


def relay_here(
    background: TaskRunner,
    legs_of: Mapping[int, Steps[Channel]],
    deadline: float,
    failed: Callable[[str], object],
) -> None:
    """Dial two nodes and forward data between them.

    `background`: runs the relay. `legs_of`: the steps that dial each of the two, see `dial_leg`. `failed`: called with
    the reason if they cannot be connected.
    """
    legs: dict[int, Channel] = {}
    tasks: list[Task] = []
    failures: list[str] = []

    def take(node: int, outcome: Channel | Exception) -> None:
        if isinstance(outcome, Channel):
            legs[node] = outcome
        else:
            failures.append(str(outcome))
        if failures:
            for task in tasks:
                background.cancel(task)
            while legs:
                legs.popitem()[1].close()
            if len(failures) == 1:
                failed(failures[0])
        elif len(legs) == 2:
            first, second = (legs[each].detach() for each in sorted(legs))
            try:
                splice(background, first, second)
            except OSError as error:
                failed(error.strerror or str(error))

    for node, steps in legs_of.items():
        tasks.append(background.start(steps, deadline, functools.partial(take, node)))
