"""Putting files at engines and getting them from there: the client's side of `pserver.services.files`.

What is sent, and that only, passes as the arguments and values of commands on the data connections, in batches of which
some are under way at once: so the memory that is taken does not depend on the size of the files, and neither end waits
for the other. All that may fail at one node is kept from the others.
"""

import contextlib
import os
import secrets
from collections import defaultdict, deque
from collections.abc import Collection, Generator, Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.errors import ConfigurationError, ParallelError, UnreadableValueError
from pconnect.files.listing import Listing, decode_name, encode_name
from pconnect.files.transfer_ends import Agreement, Incoming, Outgoing
from pconnect.link.connection import Connection
from pconnect.loop.interrupts import interrupting
from pconnect.loop.progress_bars import Meter, ProgressBar, bars_after
from pconnect.messaging.send_receive import Connections, resolve
from pconnect.protocol.wait_states import COMMAND_END, Wait
from pconnect.session.remote_calls import call_service, client_mesh
from srp_tools.steps import deadline_after, remaining

# What an engine calls; the client does not import it.
# So many batches are under way: one is written at the other end, one is in the system's buffers, one on its way there.
_WINDOW = 3

LocalPath = str | os.PathLike[str]


def put(
    local: LocalPath, remote: LocalPath | None, connections: Connections, *, timeout: float | None
) -> list[str]:
    """Send a file or a folder to engines; see `pconnect.views.file_views`."""
    deadline = deadline_after(timeout)
    nodes = _targets(connections)
    path = _local(local)
    name = _remote(path.name if remote is None else remote, path.name)
    outgoing = Outgoing(path)
    with contextlib.closing(outgoing), _Put(nodes, f"put({str(path)!r}, {name!r})", deadline) as transfer:
        paths = transfer.run(outgoing, name)
    _raise(transfer.errors.values(), "put")
    return [paths[node.node] for node in nodes]


def get(
    remote: LocalPath, local: LocalPath | None, connections: Connections, *, timeout: float | None
) -> list[Path]:
    """Fetch a file or a folder from engines; see `pconnect.views.file_views`."""
    deadline = deadline_after(timeout)
    nodes = _targets(connections)
    name = _remote(remote, "")
    own_name = PurePosixPath(name).name
    if not own_name and (local is None or not isinstance(connections, Connection)):
        raise ConfigurationError(f"get({name!r}): say under which local name, and from one node")
    if isinstance(connections, Connection):
        places = [_local(own_name if local is None else _below_folder(local, own_name))]
    else:
        places = [_local("." if local is None else local) / f"node_{node.node}" / own_name for node in nodes]
    return _Get(nodes, f"get({name!r})", name, places).run(deadline)


def _targets(connections: Connections) -> list[Connection]:
    mesh, nodes = resolve(connections)
    mesh.check_open()
    client_mesh(mesh)
    return nodes


def _local(path: LocalPath) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{path!r} is not the name of a file")
    if text == "~" or text.startswith("~/"):
        text = os.path.expanduser(text)  # noqa: PTH111 - of others' homes nobody speaks
    return Path(os.path.abspath(text))  # noqa: PTH100 - the name is that of a link, not of what it leads to


def _remote(path: LocalPath, name: str) -> str:
    """Return a path at an engine, which has ``/`` between its parts; one that ends with it is that of a folder."""
    text = path.as_posix() if isinstance(path, PurePath) else os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError(f"{path!r} is not the name of a file")
    return _below_folder(text, name)


def _below_folder(path: LocalPath, name: str) -> str:
    text = os.fspath(path)
    return text + name if text.endswith(("/", os.sep)) else text


class _Put:
    """Files on their way to some engines."""

    def __init__(self, nodes: Sequence[Connection], what: str, deadline: float) -> None:
        self._nodes = nodes
        self._what = what
        self._deadline = deadline
        self._token = secrets.token_bytes(8)
        self._under_way: deque[Commands] = deque()
        self.errors: dict[int, Exception] = {}
        self._total = self._done = 0

    def __enter__(self) -> "_Put":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            _abandon([each for commands in self._under_way for each in commands], self._nodes, self._token)

    def run(self, outgoing: Outgoing, remote: str) -> dict[int, str]:
        """Return the paths there, by node; what failed is in `errors`."""
        with Meter(self._gauge) as meter, bars_after(-1):
            packed = outgoing.listing.pack()
            self._call("begin_put", [self._token, encode_name(remote), packed], self._nodes, wants_value=True)
            paths = {}
            agreements: defaultdict[Agreement, list[Connection]] = defaultdict(list)
            for command in self._end_oldest():
                path, offers = command.result()
                paths[command.node] = decode_name(path)
                agreement = Agreement.of(offers, outgoing.digests(offers))
                agreements[agreement].append(self._node(command.node))
            self._total = sum(agreement.left(outgoing.listing) for agreement in agreements)
            # Those that have the same get the same, encoded once.
            for agreement, nodes in agreements.items():
                self._send(outgoing, agreement, nodes, meter)
        return paths

    def _send(
        self, outgoing: Outgoing, agreement: Agreement, nodes: Sequence[Connection], meter: Meter
    ) -> None:
        if agreement.kept:
            self._call("put", [self._token, list(agreement.kept), []], nodes)
        for batch in agreement.batches(outgoing.listing):
            while len(self._under_way) >= _WINDOW:
                self._end_oldest()
            nodes = [node for node in nodes if node.node not in self.errors]
            if not nodes:
                break
            pieces = outgoing.read(batch)
            self._call("put", [self._token, [], pieces], nodes)
            self._done += sum(length for *_, length in batch)
            meter.look()
        while self._under_way:
            self._end_oldest()
            meter.look()

    def _call(
        self, service: str, args: Sequence[object], nodes: Sequence[Connection], *, wants_value: bool = False
    ) -> None:
        # `call_service` waits a moment for room, and whoever does not read is sent to later, from a copy.
        with self._nodes[0].mesh.event_loop.sigint_deferred:  # what was sent is known to be under way
            self._under_way.append(
                call_service(f"files.{service}", args, nodes, wants_value=wants_value, shown_as=self._what)
            )

    def _end_oldest(self) -> list[Command]:
        """Wait for what was sent first; return what went well of it."""
        commands = self._under_way[0]
        commands.exception(remaining(self._deadline))
        self._under_way.popleft()
        for command in commands:
            error = command.exception()
            if error is not None:
                self.errors.setdefault(command.node, error)  # those that follow are told of the first
        return [command for command in commands if command.exception() is None]

    def _node(self, number: int) -> Connection:
        return next(node for node in self._nodes if node.node == number)

    def _gauge(self) -> ProgressBar | None:
        return ProgressBar("putting", self._total, "B", lambda: self._done) if self._total else None


class _Get:
    """Files on their way from some engines, side by side."""

    def __init__(self, nodes: Sequence[Connection], what: str, remote: str, places: Sequence[Path]) -> None:
        self._nodes = nodes
        self._what = what
        self._remote = remote
        self._places = places
        self._mesh = nodes[0].mesh
        self._totals: dict[int, int] = {}
        self._done = 0
        self._errors: dict[int, Exception] = {}

    def run(self, deadline: float) -> list[Path]:
        """Return the places here."""
        steps = {
            node.node: self._fetch(node, place) for node, place in zip(self._nodes, self._places, strict=True)
        }
        waiting: dict[int, Command] = {}
        try:
            with Meter(self._gauge) as meter, bars_after(-1):
                ready: Collection[int] = list(steps)
                while ready:
                    for node in ready:
                        self._step(node, steps[node], waiting)
                        meter.look()
                    ready = self._wait(waiting, deadline, meter)
        finally:
            for generator in steps.values():
                generator.close()
        _raise(self._errors.values(), "get")
        return list(self._places)

    def _step(self, node: int, steps: Generator[Command, None, None], waiting: dict[int, Command]) -> None:
        """Let the fetching from one node go on until it has to wait, or has ended."""
        waiting.pop(node, None)
        try:
            waiting[node] = next(steps)
        except StopIteration:
            pass
        except (ParallelError, OSError) as error:
            self._errors[node] = error

    def _wait(self, waiting: dict[int, Command], deadline: float, meter: Meter) -> list[int]:
        """Return the nodes whose command has ended, after waiting for one."""
        if not waiting:
            return []

        def ended() -> list[int]:
            meter.look()
            return [node for node, command in waiting.items() if command.has_ended]

        event_loop = self._mesh.event_loop
        with interrupting([node.peer for node in self._nodes if node.node in waiting]):
            event_loop.run_until(
                lambda: bool(ended()), deadline, self._what, lambda: Wait(COMMAND_END, tuple(waiting))
            )
        return ended()

    def _fetch(self, node: Connection, place: Path) -> Generator[Command, None, None]:
        """Fetch from one node; give the commands that have to end before it can go on."""
        token = secrets.token_bytes(8)
        under_way: deque[Command] = deque()

        def begin(service: str, *args: object) -> Command:
            with self._mesh.event_loop.sigint_deferred:  # what was sent is known to be under way
                command: Command = call_service(f"files.{service}", [token, *args], node, shown_as=self._what)
                under_way.append(command)
            return command

        def end() -> Any:
            return under_way.popleft().result()

        try:
            yield begin("begin_get", encode_name(self._remote))
            listing = Listing.unpack(end())
            with contextlib.closing(Incoming(place, listing, is_durable=False)) as incoming:
                offers = incoming.offers()
                yield begin("digests", offers)
                agreement = Agreement.of(offers, end())
                self._totals[node.node] = agreement.left(listing)
                incoming.keep(agreement.kept)
                asked: deque[list[list[int]]] = deque()
                for batch in agreement.batches(listing):
                    begin("get", batch)
                    asked.append(batch)
                    if len(under_way) == _WINDOW:
                        yield under_way[0]
                        self._take(incoming, asked.popleft(), end())
                while under_way:
                    yield under_way[0]
                    self._take(incoming, asked.popleft(), end())
        finally:
            if under_way:
                _abandon(under_way, [node], token)

    def _take(self, incoming: Incoming, asked: list[list[int]], pieces: Any) -> None:
        came = [_extent(piece) for piece in pieces] if isinstance(pieces, list) else None
        if came != asked:
            raise UnreadableValueError(f"what arrived for {incoming.path} is not what was asked for")
        incoming.write(pieces)
        self._done += sum(length for *_, length in asked)

    def _gauge(self) -> ProgressBar | None:
        """Return how far it is, once all have said how much they have."""
        if len(self._totals) + len(self._errors) < len(self._nodes):
            return None
        return ProgressBar("getting", sum(self._totals.values()), "B", lambda: self._done)


def _extent(piece: Any) -> list[int] | None:
    """Return ``[index, offset, length]`` of what arrived, if it is a piece at all."""
    match piece:
        case [int() as index, int() as offset, bytes() | bytearray() as data, _]:
            return [index, offset, len(data)]
    return None


def _abandon(commands: Iterable[Command], nodes: Sequence[Connection], token: bytes) -> None:
    """Have engines end what is left of a transfer; nobody waits for that, or wants to hear how it ended."""
    for command in commands:
        command.seen.error = True
        command.cancel()
    with contextlib.suppress(ParallelError):  # the network may be closed
        for command in call_service("files.end", [token], nodes, wants_value=False):
            command.seen.error = True


def _raise(errors: Collection[Exception], what: str) -> None:
    if len(errors) > 1:
        raise ExceptionGroup(f"{what} failed at {len(errors)} nodes", list(errors))
    for error in errors:
        raise error
