"""A simulated network in one thread: programs of sends and receives, with every delay chosen at random.

Node 0 is the client; the others run its commands, which pass through a supervisor as in `pserver.session.supervisor`.
Each step advances one node or one message. Queries and answers travel as PROBE and STATE do.
"""

import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pconnect.protocol.wait_states import COMMAND_END, IDLE, State, Wait, pack_state
from pconnect.session.deadlock_detector import (
    Rounds,
    stuck_nodes,
)


@dataclass(frozen=True)
class Send:
    to: int
    tag: int = 0


@dataclass(frozen=True)
class Receive:
    """Receive from any of some nodes, as `select_sockets` then `precv`; with a timeout, possibly without a value."""

    nodes: tuple[int, ...]
    tag: int = 0
    has_limit: bool = False


@dataclass(frozen=True)
class Run:
    """The client sends a command."""

    node: int
    steps: tuple[Send | Receive, ...]


@dataclass(frozen=True)
class End:
    """The client waits for the end of all commands at some nodes."""

    nodes: tuple[int, ...]


Step = Send | Receive | Run | End


@dataclass
class Node:
    """The work of one node; a command of an engine is a list of steps."""

    steps: deque[Step] = field(default_factory=deque)
    command: int = 0
    serial: int = 0
    waits: bool = False
    question: int | None = None
    inbox: Counter[tuple[int, int]] = field(default_factory=Counter)  # by sender and tag


class Simulation:
    """All nodes, with the messages in transit between them."""

    def __init__(self, size: int, program: list[Step], chance: random.Random) -> None:
        self.size = size
        self.nodes = [Node() for _ in range(size)]
        self.nodes[0].steps.extend(program)
        self._chance = chance
        # Speeds of links, pipes and nodes. Slow ones make a step last for many rounds.
        self._speeds: defaultdict[object, float] = defaultdict(lambda: chance.choice([0.003, 0.1, 1.0]))
        self._links: dict[tuple[int, int], deque[int]] = {
            (a, b): deque() for a in range(size) for b in range(size) if a != b
        }
        self._sent: Counter[tuple[int, int]] = Counter()
        self._received: Counter[tuple[int, int]] = Counter()
        engines = range(1, size)
        self._to_supervisor: dict[int, deque[Any]] = {node: deque() for node in engines}
        self._to_engine: dict[int, deque[Any]] = {node: deque() for node in engines}
        self._from_engine: dict[int, deque[Any]] = {node: deque() for node in engines}
        self._to_client: dict[int, deque[Any]] = {node: deque() for node in engines}
        self._queues: dict[int, deque[Any]] = {node: deque() for node in engines}  # held by the supervisor
        self._busy = dict.fromkeys(engines, False)  # known to the supervisor
        self._commands: dict[int, deque[Any]] = {node: deque() for node in engines}  # held by the engine
        self.running: dict[int, set[int]] = {node: set() for node in engines}  # known to the client
        self._number = 0
        self.rounds = Rounds()
        self._clock = 0.0
        self.alarm: frozenset[int] = frozenset()

    # --- what can happen next ---

    def advance(self, *, probing: bool) -> bool:
        """Run one randomly chosen step; return whether there was any."""
        possible = list(self._possible(probing=probing))
        if not possible:
            return False
        weights = [self._speeds[name] for name, _ in possible]
        self._chance.choices(possible, weights)[0][1]()
        return True

    def finish(self) -> None:
        """Run all possible steps, without further queries."""
        while self.advance(probing=False):
            pass

    def search(self) -> None:
        """Let a waiting client make its rounds once no other step is possible."""
        for _ in range(3):
            if self.nodes[0].waits and not self.alarm:
                self._ask()
                self.finish()
                self._look()

    def _possible(self, *, probing: bool) -> Iterator[tuple[object, Callable[[], object]]]:
        for (sender, receiver), link in self._links.items():
            if link:
                yield (sender, receiver), partial(self._deliver, sender, receiver)
        pipe: dict[int, deque[Any]]
        take: Callable[[int, Any], None]
        for node in range(1, self.size):
            for pipe, take in (
                (self._to_supervisor, self._supervise),
                (self._to_engine, self._instruct),
                (self._from_engine, self._pass_on),
                (self._to_client, self._report),
            ):
                if pipe[node]:
                    yield (node, take.__name__), partial(self._move, pipe, take, node)
        for number, node_ in enumerate(self.nodes):
            if self._can_go_on(number):
                yield number, partial(self._go_on, number)
            elif node_.waits and node_.question is not None:
                yield "answers", partial(self._answer, number)
        if probing and self.nodes[0].waits and not self._can_go_on(0):
            yield "answers", self._look
            if self._chance.random() < 0.1:
                yield "answers", self._ask

    def _can_go_on(self, number: int) -> bool:
        node = self.nodes[number]
        if not node.steps:
            return number > 0 and (bool(self._commands[number]) or node.command > 0 or not node.waits)
        step = node.steps[0]
        match step:
            case Receive(nodes, tag, has_limit):
                return has_limit or not node.waits or any(node.inbox[other, tag] for other in nodes)
            case End(nodes):
                return not node.waits or not any(self.running[other] for other in nodes)
        return True

    # --- nodes ---

    def _go_on(self, number: int) -> None:
        node = self.nodes[number]
        if not node.steps:
            self._next_command(number)
            return
        step = node.steps[0]
        match step:
            case Send(to, tag):
                self._links[number, to].append(tag)
                self._sent[number, to] += 1
            case Receive(nodes, tag, has_limit):
                ready = [other for other in nodes if node.inbox[other, tag]]
                if not ready and not node.waits:
                    self._begin_wait(node)
                    return
                if ready:
                    node.inbox[self._chance.choice(ready), tag] -= 1
                elif not has_limit or self._chance.random() < 0.5:
                    return
            case Run(other, steps):
                self._number += 1
                self.running[other].add(self._number)
                self._to_supervisor[other].append((self._number, steps))
            case End(nodes):
                if any(self.running[other] for other in nodes):
                    self._begin_wait(node)
                    return
        self._end_wait(node)
        node.steps.popleft()

    def _next_command(self, number: int) -> None:
        node = self.nodes[number]
        if node.command:
            self._from_engine[number].append(node.command)
            node.command = 0
        elif self._commands[number]:
            self._end_wait(node)
            node.command, steps = self._commands[number].popleft()
            node.steps.extend(steps)
        else:
            self._begin_wait(node)

    def _begin_wait(self, node: Node) -> None:
        node.waits = True
        node.serial += 1

    def _end_wait(self, node: Node) -> None:
        if node.waits:
            node.waits = False
            node.serial += 1

    def state(self, number: int) -> State:
        """Return a node's report of its own state."""
        node = self.nodes[number]
        wait: Wait | None = None
        if number and not node.steps:
            wait = Wait(IDLE, (0,))
        elif node.steps:
            match node.steps[0]:
                case Receive(nodes, tag, False):
                    wait = Wait("select_sockets", nodes, tag=tag)
                case End(nodes):
                    pending = tuple(other for other in nodes if self.running[other])
                    wait = Wait(COMMAND_END, pending, every=True)
        everybody = range(self.size)
        sent = tuple(-1 if n == number else self._sent[number, n] for n in everybody)
        received = tuple(-1 if n == number else self._received[n, number] for n in everybody)
        return State(node.command, node.serial, wait, sent, received)

    def _answer(self, number: int) -> None:
        node = self.nodes[number]
        self._from_engine[number].append((node.question, pack_state(self.state(number))))
        node.question = None

    # --- messages ---

    def _deliver(self, sender: int, receiver: int) -> None:
        self.nodes[receiver].inbox[sender, self._links[sender, receiver].popleft()] += 1
        self._received[sender, receiver] += 1

    def _move(self, pipe: dict[int, deque[Any]], take: Callable[[int, Any], None], number: int) -> None:
        take(number, pipe[number].popleft())

    def _supervise(self, number: int, message: Any) -> None:
        if isinstance(message, int):
            self._to_engine[number].append(message)
        else:
            self._queues[number].append(message)
            self._start_next(number)

    def _start_next(self, number: int) -> None:
        if self._queues[number] and not self._busy[number]:
            self._busy[number] = True
            self._to_engine[number].append(self._queues[number].popleft())

    def _instruct(self, number: int, message: Any) -> None:
        if isinstance(message, int):
            assert self.nodes[number].question is None
            self.nodes[number].question = message
        else:
            self._commands[number].append(message)

    def _pass_on(self, number: int, message: Any) -> None:
        self._to_client[number].append(message)
        if isinstance(message, int):
            self._busy[number] = False
            self._start_next(number)

    def _report(self, number: int, message: Any) -> None:
        if isinstance(message, int):
            self.running[number].remove(message)
        else:
            question, state = message
            self.rounds.take(number, question, state, self._clock)

    # --- the search ---

    def _look(self) -> None:
        if self.rounds.has_news:
            stuck = stuck_nodes(self.rounds.unchanged(self._own_state(), self.running))
            if 0 in stuck:
                self.alarm = stuck

    def _ask(self) -> None:
        self._clock += 2
        for node in self.rounds.begin(self._clock, self._own_state(), range(1, self.size)):
            self._to_supervisor[node].append(self.rounds.number)

    def _own_state(self) -> State:
        state = self.state(0)
        return state._replace(serial=state.serial + self._number)
