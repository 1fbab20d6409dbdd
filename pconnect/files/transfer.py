"""Putting files on engines and getting them from there: the client's side of `pserver.services.files`.

What is sent, and that only, passes as the arguments and values of commands on the data connections, in batches of which
some are under way at once: so the memory that is taken does not depend on the size of the files, and neither end waits
for the other. A failure at one node does not affect the others.
"""

import contextlib
import secrets
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.commands.remote_errors import failure_group
from pconnect.errors import ParallelError
from pconnect.files.listing import Listing, decode_name, encode_name, list_tree
from pconnect.files.transfer_ends import BATCH_BYTES, Agreement, Incoming, Outgoing
from pconnect.link.connection import Connection
from pconnect.loop.interrupts import interrupting
from pconnect.loop.progress import ProgressBar
from pconnect.loop.progress_bars import Meter, bars_after
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.protocol.wait_states import COMMAND_END, Wait
from pconnect.session.remote_calls import call_service, client_mesh
from srp_tools.steps import deadline_after

# So many batches are under way: one is written at the other end, one is in the system's buffers, one on its way there.
_WINDOW = 3

#: What moves files: gives the commands that have to end before it can continue.
Steps = Generator[Commands, None, None]


def put(
    local: Path,
    remote: str,
    nodes: Sequence[Connection],
    *,
    timeout: float | None,
    batch_bytes: int = BATCH_BYTES,
    check: Callable[[], object] = lambda: None,
) -> list[str]:
    """Send a file or a folder to engines; see `pconnect.views.file_views`.

    `batch_bytes`: so many are in one message. `check`: is called before each message; what it raises, which must be no
    `OSError` and no error of the package, breaks the transfer off.
    """
    deadline = deadline_after(timeout)
    transfer = Transfer(nodes, f"put({str(local)!r}, {remote!r})", "putting", check)
    paths: dict[int, str] = {}
    with contextlib.closing(Outgoing(local, list_tree(local))) as outgoing:
        transfer.run([_put(transfer, outgoing, remote, paths, batch_bytes)], deadline)
    return [paths[node.node] for node in nodes]


def get(
    remote: str,
    places: Sequence[Path],
    nodes: Sequence[Connection],
    *,
    timeout: float | None,
    batch_bytes: int = BATCH_BYTES,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Fetch a file or a folder from engines, each to its place here; see `pconnect.views.file_views`, and `put`."""
    deadline = deadline_after(timeout)
    transfer = Transfer(nodes, f"get({remote!r})", "getting", check)
    flows = [
        _get(transfer, node, remote, place, batch_bytes) for node, place in zip(nodes, places, strict=True)
    ]
    transfer.run(flows, deadline)


def targets(connections: Connections) -> list[Connection]:
    """Return the engines that are meant; an error on the client of a closed network, and in an engine."""
    mesh, nodes = resolve(connections)
    mesh.check_open()
    client_mesh(mesh)
    return nodes


class Transfer:
    """Files on their way between the client and some engines: the one scheduler of all that moves files.

    What is to be done is written as generators, `Steps`, each for some of the nodes. A generator gives what it has to
    wait for; meanwhile the others continue.

    `what`: how the verb was called, for errors. `bar`: a word for the progress bar. `nodes`: as given. `errors`: what
    failed, by node. An error at one node does not affect the others. `done_bytes`: for the progress bar. `check`: see
    `put`.
    """

    def __init__(
        self, nodes: Sequence[Connection], what: str, bar: str, check: Callable[[], object] = lambda: None
    ) -> None:
        self.nodes = nodes
        self._check = check
        self.errors: dict[int, Exception] = {}
        self.done_bytes = 0
        self._what = what
        self._bar_text = bar
        self._event_loop = nodes[0].mesh.event_loop
        self._token = secrets.token_bytes(8)
        self._under_way: list[Commands] = []
        self._expected: dict[int, int] = {}

    def call(
        self, service: str, args: Sequence[object], nodes: Sequence[Connection], *, wants_value: bool = True
    ) -> Commands:
        """Call a service of some engines with the token of this transfer; `take` has to follow."""
        self._check()
        # `call_service` waits a moment for room, and what an engine does not read is sent later, from a copy.
        with self._event_loop.sigint_deferred:  # what was sent is known to be under way
            commands: Commands = call_service(
                service, [self._token, *args], nodes, wants_value=wants_value, shown_as=self._what
            )
            self._under_way.append(commands)
        return commands

    def take(self, commands: Commands) -> list[Command]:
        """Return those that went well of what has ended, and record the errors of the others."""
        self._under_way.remove(commands)
        for command in commands:
            error = command.exception()
            if error is not None:
                self.errors.setdefault(command.node, error)  # those that follow only repeat the first
        return [command for command in commands if command.exception() is None]

    def alive(self, nodes: Iterable[Connection]) -> list[Connection]:
        """Return those of some nodes at which nothing has failed."""
        return [node for node in nodes if node.node not in self.errors]

    def expect(self, node: Connection, size: int) -> None:
        """Record how many bytes will be counted for a node; there is a bar once this is known for all."""
        self._expected[node.node] = size

    @contextlib.contextmanager
    def apart(self, node: Connection) -> Iterator[None]:
        """Let what fails inside be an error of this node alone."""
        try:
            yield
        except (ParallelError, OSError) as error:
            self.errors.setdefault(node.node, error)
            self._abandon([node])

    def run(self, flows: Sequence[Steps], deadline: float) -> None:
        """Run generators side by side until all have ended.

        Raises `ParallelError`, `OSError` or `ExceptionGroup`: what failed at one node, or at several; the others are
        done. After `TimeoutError` or `KeyboardInterrupt` all is broken off; what is left of it on engines ends without
        further notice.
        """
        waiting: dict[Steps, Commands] = {}
        try:
            with Meter(self._bar) as meter, bars_after(-1):
                ready = flows
                while ready:
                    for flow in ready:
                        waiting.pop(flow, None)
                        with contextlib.suppress(StopIteration):
                            waiting[flow] = next(flow)
                        meter.look()
                    ready = self._wait(waiting, deadline, meter)
        except BaseException:
            self._abandon(self.alive(self.nodes))
            raise
        finally:
            for flow in flows:
                flow.close()
        if len(self.errors) > 1:
            verb = self._what.partition("(")[0]
            raise failure_group(verb, dict(sorted(self.errors.items())))
        for error in self.errors.values():
            raise error

    def _wait(self, waiting: Mapping[Steps, Commands], deadline: float, meter: Meter) -> list[Steps]:
        """Wait until a generator can continue; return those that can."""
        if not waiting:
            return []

        def ready() -> list[Steps]:
            meter.look()
            return [
                flow for flow, commands in waiting.items() if all(command.has_ended for command in commands)
            ]

        def stuck() -> Wait:
            return Wait(COMMAND_END, tuple(busy()), every=len(waiting) == 1)

        def busy() -> set[int]:
            return {
                command.node for commands in waiting.values() for command in commands if not command.has_ended
            }

        with interrupting([node.peer for node in self.nodes if node.node in busy()]):
            self._event_loop.run_until(lambda: bool(ready()), deadline, self._what, stuck)
        return ready()

    def _abandon(self, nodes: Sequence[Connection]) -> None:
        """Have engines end what is left; nothing waits for that, and its errors are ignored."""
        numbers = {node.node for node in nodes}
        for commands in self._under_way:
            for command in commands:
                if command.node in numbers:
                    command.seen.error = True
                    command.cancel()
        with contextlib.suppress(ParallelError):  # the network may be closed
            for command in call_service("files.end", [self._token], nodes, wants_value=False):
                command.seen.error = True

    def _bar(self) -> ProgressBar | None:
        total = sum(self._expected.values())
        if not total or self._expected.keys() | self.errors.keys() < {node.node for node in self.nodes}:
            return None
        return ProgressBar(self._bar_text, total, "B", lambda: self.done_bytes)


def _pipelined(calls: Iterable[Commands], take: Callable[[Commands], object]) -> Steps:
    """Let some calls be under way at once; `take` gets them in their order, each after its end."""
    under_way: deque[Commands] = deque()
    for commands in calls:
        under_way.append(commands)
        if len(under_way) == _WINDOW:
            yield under_way[0]
            take(under_way.popleft())
    while under_way:
        yield under_way[0]
        take(under_way.popleft())


def send(transfer: Transfer, outgoing: Outgoing, offers: Mapping[int, Any], batch_bytes: int) -> Steps:
    """Send to engines what they lack of some files.

    `offers`: what is there already, by node; see `Incoming.offers`. Others get nothing. `batch_bytes`: so much is in
    one message.
    """
    agreements: defaultdict[Agreement, list[Connection]] = defaultdict(list)
    for node in transfer.nodes:
        transfer.expect(node, 0)
        if node.node in offers:
            offered = offers[node.node]
            with transfer.apart(node):
                agreements[Agreement.of(offered, outgoing.digests(offered))].append(node)
    # Nodes that have the same get the same, which is read and encoded once.
    for agreement, nodes in agreements.items():
        transfer.expect(nodes[0], agreement.left(outgoing.listing))
    for agreement, nodes in agreements.items():
        yield from _pipelined(_sending(transfer, outgoing, agreement, nodes, batch_bytes), transfer.take)


def _sending(
    transfer: Transfer,
    outgoing: Outgoing,
    agreement: Agreement,
    nodes: Sequence[Connection],
    batch_bytes: int,
) -> Iterator[Commands]:
    if agreement.kept:
        yield transfer.call("files.put", [list(agreement.kept), []], nodes, wants_value=False)
    for batch in agreement.batches(outgoing.listing, batch_bytes):
        nodes = transfer.alive(nodes)
        if not nodes:
            return
        yield transfer.call("files.put", [[], outgoing.read(batch)], nodes, wants_value=False)
        transfer.done_bytes += sum(length for *_, length in batch)


def _put(
    transfer: Transfer, outgoing: Outgoing, remote: str, paths: dict[int, str], batch_bytes: int
) -> Steps:
    """Put files on all nodes; `paths` gets where they are."""
    begun = transfer.call("files.begin_put", [encode_name(remote), outgoing.listing.pack()], transfer.nodes)
    yield begun
    offers = {}
    for command in transfer.take(begun):
        path, offers[command.node] = command.result()
        paths[command.node] = decode_name(path)
    yield from send(transfer, outgoing, offers, batch_bytes)


def _get(transfer: Transfer, node: Connection, remote: str, place: Path, batch_bytes: int) -> Steps:
    """Get files from one node."""

    def result(commands: Commands) -> Any:
        for command in transfer.take(commands):
            return command.result()
        raise transfer.errors[node.node]

    with transfer.apart(node):
        begun = transfer.call("files.begin_get", [encode_name(remote)], [node])
        yield begun
        listing = Listing.unpack(result(begun))
        with contextlib.closing(Incoming(place, listing, is_durable=False)) as incoming:
            offers = incoming.offers()
            asked = transfer.call("files.digests", [offers], [node])
            yield asked
            agreement = Agreement.of(offers, result(asked))
            transfer.expect(node, agreement.left(listing))
            incoming.keep(agreement.kept)
            batches: deque[list[list[int]]] = deque()

            def calls() -> Iterator[Commands]:
                for batch in agreement.batches(listing, batch_bytes):
                    batches.append(batch)
                    yield transfer.call("files.get", [batch], [node])

            def take(commands: Commands) -> None:
                batch = batches.popleft()
                incoming.write_batch(batch, result(commands))
                transfer.done_bytes += sum(length for *_, length in batch)

            yield from _pipelined(calls(), take)
