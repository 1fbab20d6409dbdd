"""Send files to engines and fetch files from them: the client's side of `pserver.services.files`.

File data travels as arguments and values of commands on the data connections, in batches. Several batches are in
transit at the same time, so neither end waits for the other, and the memory in use does not depend on the size of the
files. A failure on one node does not affect the other nodes.
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

# The number of batches in transit: one is being written at the other end, one is in the system's buffers, one is sent.
_WINDOW = 3

#: A generator that moves files. It yields the commands that must end before it can continue.
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

    `batch_bytes`: the size of a message. `check`: called before each message. To abort the transfer, it raises an
    exception other than `OSError` and the errors of this package.
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
    """Fetch a file or a folder from each engine to its place here; see `pconnect.views.file_views` and `put`."""
    deadline = deadline_after(timeout)
    transfer = Transfer(nodes, f"get({remote!r})", "getting", check)
    flows = [
        _get(transfer, node, remote, place, batch_bytes) for node, place in zip(nodes, places, strict=True)
    ]
    transfer.run(flows, deadline)


def targets(connections: Connections) -> list[Connection]:
    """Return the engines among the connections. Raises an error in an engine, and if the network is closed."""
    mesh, nodes = resolve(connections)
    mesh.check_open()
    client_mesh(mesh)
    return nodes


class Transfer:
    """A transfer between the client and some engines. It schedules all generators that move files.

    The work is written as generators, `Steps`, each for some of the nodes. A generator yields the commands for which it
    waits; meanwhile the other generators continue.

    `nodes`: the engines. `what`: the user's call, for errors. `bar`: the label of the progress bar. `errors`: the first
    error of each failed node; the other nodes continue. `done_bytes`: the state of the progress bar. `check`: see
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
        """Call a service of some engines with the token of this transfer. The caller must later call `take`."""
        self._check()
        # `call_service` waits only briefly for room; data that an engine does not read yet is copied and sent later.
        with self._event_loop.sigint_deferred:  # every sent command must be recorded below
            commands: Commands = call_service(
                service, [self._token, *args], nodes, wants_value=wants_value, shown_as=self._what
            )
            self._under_way.append(commands)
        return commands

    def take(self, commands: Commands) -> list[Command]:
        """Record the errors of ended commands, and return the successful ones."""
        self._under_way.remove(commands)
        for command in commands:
            error = command.exception()
            if error is not None:
                self.errors.setdefault(command.node, error)  # later errors only repeat the first one
        return [command for command in commands if command.exception() is None]

    def alive(self, nodes: Iterable[Connection]) -> list[Connection]:
        """Return the nodes without errors."""
        return [node for node in nodes if node.node not in self.errors]

    def expect(self, node: Connection, size: int) -> None:
        """Record the number of bytes to move for a node. The progress bar appears when it is known for all nodes."""
        self._expected[node.node] = size

    @contextlib.contextmanager
    def apart(self, node: Connection) -> Iterator[None]:
        """Treat errors in the body of the ``with`` statement as errors of this node alone."""
        try:
            yield
        except (ParallelError, OSError) as error:
            self.errors.setdefault(node.node, error)
            self._abandon([node])

    def run(self, flows: Sequence[Steps], deadline: float) -> None:
        """Run generators concurrently until all have ended.

        Raises `ParallelError` or `OSError` if one node failed, `ExceptionGroup` if several did; the transfer to all
        other nodes is complete. `TimeoutError` and `KeyboardInterrupt` abort the transfer on all nodes.
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
        """Wait until a generator can continue; return all that can."""
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
        """Abort the transfer on some engines. Does not wait for them, and ignores their errors."""
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
    """Keep several calls in progress. Passes each of them to `take` after its end, in order."""
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
    """Send missing file data to engines.

    `offers`: the existing data, by node; see `Incoming.offers`. Nodes without offers receive nothing. `batch_bytes`:
    the size of a message.
    """
    agreements: defaultdict[Agreement, list[Connection]] = defaultdict(list)
    for node in transfer.nodes:
        transfer.expect(node, 0)
        if node.node in offers:
            offered = offers[node.node]
            with transfer.apart(node):
                agreements[Agreement.of(offered, outgoing.digests(offered))].append(node)
    # Nodes with the same existing data get the same messages, which are read and encoded only once.
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
    """Send files to all nodes, and store their paths there in `paths`."""
    begun = transfer.call("files.begin_put", [encode_name(remote), outgoing.listing.pack()], transfer.nodes)
    yield begun
    offers = {}
    for command in transfer.take(begun):
        path, offers[command.node] = command.result()
        paths[command.node] = decode_name(path)
    yield from send(transfer, outgoing, offers, batch_bytes)


def _get(transfer: Transfer, node: Connection, remote: str, place: Path, batch_bytes: int) -> Steps:
    """Fetch files from one node."""

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
