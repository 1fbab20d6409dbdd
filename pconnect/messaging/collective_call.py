"""One collective call at one member: who takes part, what belongs together, and how it ends at all of them.

Matching. The members are the nodes of a network or of a part of one, by *rank*, their place in it. The n-th call of the
same members in an epoch is the same call everywhere (`pconnect.protocol.collective_inbox`). Every message of a call
carries a text with the name and the options of the call, such as ``"reduce(op='sum', root=0)"``, and whoever sees
another one than its own raises. For this, every member tells rank 0 at once that it is here, if it has nothing else to
send there.

Ending. A member that has its result tells rank 0, and returns when rank 0 has heard that from all and said so. Nobody
is done before that; therefore a member that waits looks at all the others, whomever it waits for, and the loss of any
one makes the call impossible. There is one exception. After a member has said that it is complete, the last word of
rank 0 may be on its way to it, while another has had it already and has failed since: then a moment is waited for it.

Leaving. Whatever goes wrong at a member, it tells all nodes (`leave`), each of which then raises in turn if it needs
this one. What was half done cannot be put right by going on, so nobody who has left takes part in a later call, until
the client's next command begins a new epoch.
"""

import operator
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from pconnect.errors import CollectiveError, ConfigurationError, ProtocolError, UnsupportedValueError
from pconnect.link.connection import Connection
from pconnect.loop.interrupts import interrupting
from pconnect.loop.network import Mesh, Network
from pconnect.messaging.send_receive import names
from pconnect.protocol.collective_inbox import Key, Notice, Step
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import PART_VALUE, Unfinished, encode_message
from pconnect.protocol.wait_states import Wait
from srp_tools.steps import deadline_after

_MAX_TEXT = 4000  # characters of an error that are told to others
_GRACE = 1.0  # seconds


class Call:
    """A collective call under way; `collective` makes it.

    Attributes
    ----------
    size, rank
        Number of members, and the own place among them.
    others
        The ranks of all but the own.
    """

    def __init__(self, network: Network, name: str, timeout: float | None) -> None:
        mesh = _mesh_of(network, name)
        mesh.event_loop.catch_up()
        nodes = tuple(network.nodes)
        self.name = name
        self.size = len(nodes)
        self.rank = nodes.index(mesh.node)
        self.others = [rank for rank in range(self.size) if rank != self.rank]
        self.mesh = mesh
        self._members = [mesh.connections[node] for node in nodes]
        self._generations = [member.generation for member in self._members]
        self._terms: dict[str, object] = {}
        self._text = f"{name}()"
        self._deadline = deadline_after(timeout)
        self._announced = self.rank == 0
        self._completed = False
        # When failures of other nodes were noticed, after we were complete.
        self._failures: dict[int, float] = {}
        self._origin: Notice | None = None
        number = mesh.calls.get(nodes, 0)
        mesh.calls[nodes] = number + 1
        self._key = Key(nodes, mesh.epoch, number % 2**32)

    # --- what all members have to agree on ---

    def agree(self, **terms: object) -> None:
        """Add options that have to be the same at all members; before anything is sent."""
        self._terms |= terms
        self._text = f"{self.name}({', '.join(f'{name}={term!r}' for name, term in self._terms.items())})"

    def agree_on_root(self, root: int) -> int:
        """Return the rank of the root, on which all members have to agree."""
        rank = operator.index(root)
        if not -self.size <= rank < self.size:
            raise ConfigurationError(f"root={root}: there is no such member among {self.size}")
        self.agree(root=rank % self.size)
        return rank % self.size

    # --- moving values ---

    def post(self, ranks: Iterable[int], value: object) -> None:
        """Queue a value to be sent to some members; it is encoded once, and arrays are not copied."""
        try:
            self._post(ranks, Step.DATA, value)
        except UnsupportedValueError as error:
            # The user's value is a part of ours, and so is the name of the part that is refused.
            text = str(error).replace(f"value[{PART_VALUE}]", "value", 1)
            raise UnsupportedValueError(text) from None

    def in_rank_order(self, own: object) -> Iterator[Any]:
        """Yield a value of each member, as soon as it and those before are here; `own` in the own place."""
        for rank in range(self.size):
            if rank != self.rank:
                self._wait_in_order(rank)
            yield own if rank == self.rank else self.take_value(rank)

    def _wait_in_order(self, rank: int) -> None:
        self.run(
            lambda: (
                []
                if self.has_value(rank)
                else [r for r in self.others if r >= rank and not self.has_value(r)]
            )
        )

    def receive(self, rank: int) -> Any:
        """Wait for the next value of a member."""
        self.run(lambda: [] if self.has_value(rank) else [rank])
        return self.take_value(rank)

    def has_value(self, rank: int) -> bool:
        """Whether a value of a member is here."""
        return self._step(rank) is Step.DATA

    def take_value(self, rank: int) -> Any:
        """Return the next value of a member, which is here."""
        value = self._members[rank].take_collective(self._key).value
        if type(value) is Unfinished:
            try:
                return value.finish()
            except ProtocolError as error:
                self.refuse(rank, str(error))
        return value

    def run(self, work: Callable[[], Collection[int]]) -> None:
        """Serve all connections until `work`, called after each change, returns no more ranks that it waits for."""
        if not self._announced:
            self._post([0], Step.CALLED, None)
        awaited: Collection[int] = ()

        def ended() -> bool:
            nonlocal awaited
            awaited = work()
            if awaited:
                self._check()
                for rank in awaited:
                    self._members[rank].check_inbox()
            return not awaited

        def wait() -> Wait:
            # The failure of any member ends it, whomever it waits for.
            awaited_nodes = tuple(self._members[rank].node for rank in awaited)
            return Wait(self.name, tuple(member.node for member in self.peers), awaited_nodes)

        try:
            self.mesh.event_loop.run_until(ended, self._deadline, self.name, wait)
        except TimeoutError:
            raise TimeoutError(
                f"time limit passed in {self}, while waiting for {names([self._members[rank] for rank in awaited])}"
            ) from None

    def complete(self) -> None:
        """Return when all members have their results."""
        if self.rank == 0:
            self._wait_for(self.others, Step.COMPLETE)
            self._check()  # nobody has got away yet
            self._post(self.others, Step.ALL_COMPLETE, None)
            self.mesh.event_loop.run_until(
                lambda: not any(member.wants_to_write for member in self.peers),
                self._deadline,
                f"room in {self}",
            )
        else:
            self._post([0], Step.COMPLETE, None)
            self._completed = True
            self._wait_for([0], Step.ALL_COMPLETE)

    def refuse(self, rank: int, reason: str) -> NoReturn:
        """End the connection to a member that sent what it must not."""
        member = self._members[rank]
        self.mesh.event_loop.lose(member, ProtocolError(reason))
        self._raise_loss(member)

    def _post(self, ranks: Iterable[int], step: Step, value: object) -> None:
        nodes, epoch, number = self._key
        contents = [list(nodes), epoch, self._text, int(step), value]
        buffers = encode_message(Kind.COLLECTIVE, number, contents, self.mesh.limits.max_message_bytes)
        with self.mesh.event_loop.sigint_deferred:
            for rank in ranks:
                self._announced |= rank == 0
                self._members[rank].post_encoded(buffers)
                self.mesh.event_loop.flush(self._members[rank])

    def _step(self, rank: int) -> Step | None:
        """Return what the next part of a member is, or ``None`` if there is none."""
        parts = self._members[rank].collectives
        part = parts.first(self._key)
        if part is None:
            return None
        if part.call != self._text:
            own = self._members[self.rank]
            raise CollectiveError(
                f"the members do not make the same call: {names([own])} called {self._text}, but "
                f"{names([self._members[rank]])} called {part.call}"
            )
        if part.step is Step.CALLED:
            self._members[rank].take_collective(self._key)
            return self._step(rank)
        return part.step

    def _wait_for(self, ranks: Sequence[int], step: Step) -> None:
        self.run(lambda: [rank for rank in ranks if self._step(rank) is not step])
        for rank in ranks:
            self._members[rank].take_collective(self._key)

    # --- what makes the call impossible ---

    def _check(self) -> None:
        for rank in self.others:
            if rank == 0 or not self._completed or self._has_had_its_moment(self._members[rank]):
                self._step(rank)
                self._check_member(rank)

    def _has_had_its_moment(self, member: Connection) -> bool:
        """Whether a member failed so long ago that the last word of rank 0, if it has had it, would be here too."""
        nodes, epoch, _ = self._key
        if not (
            member.error or member.collectives.notice(epoch) or member.collectives.is_ahead(nodes, epoch)
        ):
            return False
        return self._failures.setdefault(member.node, time.monotonic()) + _GRACE < time.monotonic()

    def _check_member(self, rank: int) -> None:
        member = self._members[rank]
        nodes, epoch, _ = self._key
        if member.error:
            self._raise_loss(member)
        if member.generation != self._generations[rank]:
            raise self._error(f"{names([member])} was restarted meanwhile")
        if notice := member.collectives.notice(epoch):
            self._raise_notice(notice)
        if member.collectives.is_ahead(nodes, epoch):
            raise self._error(f"{names([member])} has begun anew, with a later command")
        member.peer.check_epoch(epoch)
        # It cannot have gone through this call already, and while the client waits here it sends no command.
        if not self._completed and not member.peer.busy:
            raise self._error(f"{names([member])} runs no command that could call it: use reval first")

    def _raise_loss(self, member: Connection) -> NoReturn:
        error = member.account()
        self._origin = Notice(member.node, str(error))
        raise error

    def _raise_notice(self, notice: Notice) -> NoReturn:
        self._origin = notice
        if not 0 <= notice.node < len(self.mesh.connections):
            raise self._error(notice.text)
        origin = self.mesh.connections[notice.node]
        account = origin.account() if origin.error else origin.peer.explain(self._key.epoch)
        raise account or self._error(f"{names([origin])} left it: {notice.text}")

    def _error(self, reason: str) -> CollectiveError:
        return CollectiveError(f"{self} cannot be completed: {reason}")

    def leave(self, error: BaseException) -> None:
        """Tell all nodes that this one takes part no more; what is left to be sent is copied."""
        with self.mesh.event_loop.sigint_deferred:
            for rank in self.others:
                if self._members[rank].has_unsent:
                    self._members[rank].keep_unsent()
            leave(self.mesh, error, self._origin)

    def __str__(self) -> str:
        return f"{self.name} of nodes {', '.join(map(str, self._key.nodes))}"

    @property
    def peers(self) -> list[Connection]:
        """The connections to the other members."""
        return [self._members[rank] for rank in self.others]


@contextmanager
def collective(network: Network, name: str, timeout: float | None) -> Iterator[Call]:
    """Make a collective call: the block is what this member does in it.

    Raises
    ------
    ConfigurationError
        The own node is no member. Nothing was sent.
    CollectiveError
        This node left the collectives of this epoch before.
    """
    call = Call(network, name, timeout)
    try:
        with interrupting([member.peer for member in call.peers]):
            yield call
            call.complete()
    except BaseException as error:
        call.leave(error)
        raise


def leave(mesh: Mesh, error: BaseException, origin: Notice | None = None) -> None:
    """Take part in no more collective calls of this epoch, and tell all nodes why.

    Parameters
    ----------
    mesh
        The network.
    error
        What went wrong here.
    origin
        What it comes from, if that is something at another node.
    """
    if mesh.left is None:
        notice = origin or Notice(mesh.node, _text_of(error))
        mesh.left = notice
        buffers = encode_message(Kind.LEFT, 0, [mesh.epoch, *notice], mesh.limits.max_message_bytes)
        with mesh.event_loop.sigint_deferred:
            for connection in mesh.connections:
                if not connection.is_own and connection.error is None:
                    connection.post_encoded(buffers)
                    mesh.event_loop.flush(connection)


def _text_of(error: BaseException) -> str:
    try:
        return f"{type(error).__qualname__}: {error}"[:_MAX_TEXT]
    except Exception:  # noqa: BLE001 - of a user's own type, whose text cannot be had
        return type(error).__qualname__


def _mesh_of(network: Network, name: str) -> Mesh:
    """Return the mesh in which a collective call can be made."""
    if not isinstance(network, Network):
        raise ConfigurationError(f"{name} needs a network or a part of one, not {network!r}")
    mesh = network.mesh
    mesh.check_open()
    if mesh.node not in network.nodes:
        shown = ", ".join(map(str, network.nodes))
        advice = (
            "take a part with node 0, or let the engines do it: "
            f"reval('{name}(..., sockets[{network.nodes}])', net[{network.nodes}])"
            if mesh.node == 0
            else "only its members call it"
        )
        raise ConfigurationError(
            f"this is node {mesh.node}, which is not among the members of {name}, nodes {shown}: {advice}"
        )
    if mesh.left is not None:
        raise CollectiveError(
            f"{name} cannot begin: this node left an earlier collective call ({mesh.left.text}); the client's next "
            "command begins anew"
        )
    return mesh
