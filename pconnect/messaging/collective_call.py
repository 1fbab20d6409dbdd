"""One collective call at one member: who takes part, what belongs together, and how it ends at all of them.

Matching. The members are the nodes of a network or of a part of one, by *rank*, their place in it. The n-th call of the
same members in an epoch is the same call everywhere (`pconnect.protocol.collective_inbox`). Every message of a call
carries a text with the name and the options of the call, such as ``"reduce(op='sum', root=0)"``, and whoever sees
another one than its own raises.

What all members have to tell each other travels in a tree with rank 0 at the root (`pconnect.messaging.tree`), so that
nobody sends or receives more than a few messages for it. Every member tells its parent at once that it is here, if it
has nothing else to send there: where two members do not make the same call, there is a parent with a child for which
that is so.

Ending. A member that has its result, and has heard the same from its children, tells its parent. Rank 0 then knows that
all have theirs, and says so; each passes that on to its children, and returns. Nobody is done before that; therefore a
member that waits looks at all the others, whomever it waits for, and the loss of any one makes the call impossible.
There is one exception. After a member has said that it is complete, the last word may be on its way to it, while
another has had it already and has failed since: then a moment is waited for it.

To look at all the others costs nothing: `Mesh.suspects` has those of which something was heard or seen. Only the client
goes through all now and then, as what it knows of its servers may change with time alone.

Leaving. Whatever goes wrong at a member, it tells all nodes (`leave`), each of which then raises in turn if it needs
this one. What was half done cannot be put right by going on, so nobody who has left takes part in a later call, until
the client's next command begins a new epoch.
"""

import operator
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from pconnect.errors import CollectiveError, ConfigurationError, ProtocolError, UnsupportedValueError
from pconnect.link.connection import Connection
from pconnect.link.peer import Peer
from pconnect.link.queues import look_until
from pconnect.loop.interrupts import interrupting
from pconnect.loop.network import Mesh, Network
from pconnect.messaging import tree
from pconnect.messaging.membership import mesh_for, ranks_of
from pconnect.messaging.send_receive import names
from pconnect.protocol.collective_inbox import Key, Notice, Step, group_of
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import PART_VALUE, Unfinished, encode_message
from pconnect.protocol.wait_states import Wait
from srp_tools.steps import deadline_after

_MAX_TEXT = 4000  # characters of an error that are told to others
_GRACE = 1.0  # seconds
_LOOK_EVERY = 0.05  # seconds between two looks of the client at all members, as long as nothing has failed


class _Before(NamedTuple):
    """What there was when a call began."""

    members: Sequence[int] | None  # of the whole network, if the call is one of all
    generations: Mapping[int, int]  # of the suspects among the members


class Call:
    """A collective call under way; `collective` makes it."""

    def __init__(self, network: Network, name: str, timeout: float | None) -> None:
        mesh = mesh_for(network, name)
        mesh.event_loop.catch_up()
        self.name = name
        self.mesh = mesh
        self.nodes = tuple(network.nodes)
        #: Number of members, and the place of this node among them.
        self.rank = ranks_of(self.nodes)[mesh.node]
        self._parents = tree.parents(self.rank, 0, self.size)
        self._children = tree.children(self.rank, 0, self.size)
        # Those of other members were 0: one that is restarted becomes a suspect for ever.
        generations = {node: mesh.connections[node].generation for node in mesh.suspects}
        # Once the network has changed, another list stands there.
        self._before = _Before(mesh.members if network.is_whole else None, generations)
        self._next_look = 0.0  # at all members, on the client
        self._text = f"{name}()"
        self._deadline = deadline_after(timeout)
        self._announced = not self._parents
        self._completed = False
        # When failures of other nodes were noticed, after we were complete.
        self._failures: dict[int, float] = {}
        self._origin: Notice | None = None
        with mesh.event_loop.sigint_deferred:
            mesh.calls[self.nodes] = (number := mesh.calls.get(self.nodes, 0)) + 1
            self._key = Key(group_of(self.nodes), mesh.epoch, number % 2**32)

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.nodes)

    @property
    def others(self) -> list[int]:
        """The ranks of all but the own."""
        return [*range(self.rank), *range(self.rank + 1, self.size)]

    # --- what all members have to agree on ---

    def agree(self, **terms: object) -> None:
        """Add options that have to be the same at all members; before anything is sent."""
        words = ", ".join(f"{name}={term!r}" for name, term in terms.items())
        before = self._text[:-1]
        self._text = f"{before}{'' if before.endswith('(') else ', '}{words})"

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

    def in_rank_order(self, own: object, count: int) -> Iterator[Any]:
        """Yield a value of each of the first members, as soon as it and those before are here; `own` in its place."""
        for rank in range(count):
            if rank != self.rank:
                self._wait_in_order(rank, count)
            yield own if rank == self.rank else self.take_value(rank)

    def _wait_in_order(self, rank: int, count: int) -> None:
        # Looked at after each message, so only at this rank; others matter for the text of an error alone.
        self.run(
            lambda: [] if self.has_value(rank) else [rank],
            lambda: [r for r in range(rank, count) if r != self.rank and not self.has_value(r)],
        )

    def receive(self, rank: int) -> Any:
        """Wait for the next value of a member, and return it."""
        self.wait_for(rank)
        return self.take_value(rank)

    def wait_for(self, rank: int) -> None:
        """Return when a value of a member is here."""
        self.run(lambda: [] if self.has_value(rank) else [rank])

    def has_value(self, rank: int) -> bool:
        """Whether a value of a member is here."""
        return self._step(rank) is Step.DATA

    def take_value(self, rank: int) -> Any:
        """Return the next value of a member, which is here."""
        with self.mesh.event_loop.sigint_deferred:
            value = self._member(rank).take_collective(self._key).value
        if type(value) is Unfinished:
            try:
                return value.finish(self.look)
            except ProtocolError as error:
                self.refuse(rank, str(error))
        return value

    def look(self) -> None:
        """Raise `TimeoutError` if the time limit has passed; for what takes long."""
        look_until(self._deadline)()

    def run(
        self, work: Callable[[], Collection[int]], awaited: Callable[[], Collection[int]] | None = None
    ) -> None:
        """Serve all connections until `work`, called after each change, returns no more ranks that it waits for.

        If it does not return all of them, `awaited` does, for the text of an error.
        """
        needed: Collection[int] = ()
        all_needed = awaited or (lambda: needed)

        def ended() -> bool:
            nonlocal needed
            needed = work()
            if needed:
                if not self._announced:
                    self._post(self._parents, Step.CALLED, None)
                self._check()
                for rank in needed:
                    self._member(rank).check_inbox()
            return not needed

        def wait() -> Wait:
            # The failure of any member ends it, whomever it waits for.
            everybody = tuple(node for node in self.nodes if node != self.mesh.node)
            return Wait(self.name, everybody, tuple(self.nodes[rank] for rank in all_needed()))

        try:
            self.mesh.event_loop.run_until(ended, self._deadline, self.name, wait)
        except TimeoutError:
            ranks = all_needed()
            words = names([self._member(rank) for rank in ranks])
            if any(rank in self._children and tree.children(rank, 0, self.size) for rank in ranks):
                words += ", or for members whose messages are passed on there"
            raise TimeoutError(f"time limit passed in {self}, while waiting for {words}") from None

    def complete(self) -> None:
        """Return when all members have their results."""
        self._wait_for(self._children, Step.COMPLETE)
        if not self._parents:
            self._check()  # nobody has got away yet
            self._post(self._children, Step.ALL_COMPLETE, None)
        else:
            self._post(self._parents, Step.COMPLETE, None)
            self._completed = True
            with self.mesh.event_loop.sigint_deferred:  # who has heard it passes it on
                self._wait_for(self._parents, Step.ALL_COMPLETE)
                self._post(self._children, Step.ALL_COMPLETE, None)
        children = [self._member(rank) for rank in self._children]
        self.mesh.event_loop.run_until(
            lambda: not any(child.wants_to_write for child in children), self._deadline, f"room in {self}"
        )

    def refuse(self, rank: int, reason: str) -> NoReturn:
        """End the connection to a member that sent what it must not."""
        member = self._member(rank)
        self.mesh.event_loop.lose(member, ProtocolError(reason))
        self._raise_loss(member)

    def _member(self, rank: int) -> Connection:
        return self.mesh.connections[self.nodes[rank]]

    def _post(self, ranks: Iterable[int], step: Step, value: object) -> None:
        group, epoch, number = self._key
        contents = [group, epoch, self._text, int(step), value]
        buffers = encode_message(Kind.COLLECTIVE, number, contents, self.mesh.limits.max_message_bytes)
        with self.mesh.event_loop.sigint_deferred:
            for rank in ranks:
                self._announced |= rank in self._parents
                member = self._member(rank)
                member.post_encoded(buffers)
                self.mesh.event_loop.flush(member)

    def _step(self, rank: int) -> Step | None:
        """Return what the next part of a member is, or ``None`` if there is none."""
        member = self._member(rank)
        part = member.collectives.first(self._key)
        if part is None:
            return None
        if part.call != self._text:
            raise CollectiveError(
                f"the members do not make the same call: {names([self._member(self.rank)])} called {self._text}, but "
                f"{names([member])} called {part.call}"
            )
        if part.step is Step.CALLED:
            with self.mesh.event_loop.sigint_deferred:
                member.take_collective(self._key)
            return self._step(rank)
        return part.step

    def _wait_for(self, ranks: Sequence[int], step: Step) -> None:
        self.run(lambda: [rank for rank in ranks if self._step(rank) is not step])
        with self.mesh.event_loop.sigint_deferred:
            for rank in ranks:
                self._member(rank).take_collective(self._key)

    # --- what makes the call impossible ---

    def _check(self) -> None:
        members = self._before.members
        if members is not None and members is not self.mesh.members and not self._completed:
            raise self._error(f"{self.mesh.change} meanwhile")
        for rank in self._children:
            self._step(rank)  # it may be in another call
        for rank in self._suspects():
            if rank in self._parents or not self._completed or self._has_had_its_moment(self._member(rank)):
                self._step(rank)
                self._check_member(rank)

    def _suspects(self) -> list[int]:
        """Return the ranks of members for which something may make the call impossible."""
        if self.mesh.node == 0 and (self.mesh.has_failures or time.monotonic() >= self._next_look):
            self._next_look = time.monotonic() + _LOOK_EVERY
            return self.others
        ranks = ranks_of(self.nodes)
        return [ranks[node] for node in self.mesh.suspects if node in ranks and node != self.mesh.node]

    def _has_had_its_moment(self, member: Connection) -> bool:
        """Whether a member failed so long ago that the last word of rank 0, if it has had it, would be here too."""
        group, epoch, _ = self._key
        if not (
            member.error or member.collectives.notice(epoch) or member.collectives.is_ahead(group, epoch)
        ):
            return False
        return self._failures.setdefault(member.node, time.monotonic()) + _GRACE < time.monotonic()

    def _check_member(self, rank: int) -> None:
        member = self._member(rank)
        group, epoch, _ = self._key
        if member.error:
            self._raise_loss(member)
        if member.generation != self._before.generations.get(member.node, 0):
            raise self._error(f"{names([member])} was restarted meanwhile")
        if notice := member.collectives.notice(epoch):
            self._raise_notice(notice)
        if member.collectives.is_ahead(group, epoch):
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
                if self._member(rank).has_unsent:
                    self._member(rank).keep_unsent()
            leave(self.mesh, error, self._origin)

    def __str__(self) -> str:
        return f"{self.name} of nodes {', '.join(map(str, self.nodes))}"

    @property
    def peers(self) -> list[Peer]:
        """Those of the other members that can be interrupted: only the client knows any."""
        return [self._member(rank).peer for rank in self.others] if self.mesh.node == 0 else []


@contextmanager
def collective(network: Network, name: str, timeout: float | None) -> Iterator[Call]:
    """Make a collective call: the block is what this member does in it.

    Raises `ConfigurationError` if this node is no member. Nothing was sent. Raises `CollectiveError` if this node
    left the collectives of this epoch before.
    """
    call = Call(network, name, timeout)
    try:
        with interrupting(call.peers):
            yield call
            call.complete()
    except BaseException as error:
        call.leave(error)
        raise


def leave(mesh: Mesh, error: BaseException, origin: Notice | None = None) -> None:
    """Take part in no more collective calls of this epoch, and tell all nodes why.

    `error`: what went wrong here. `origin`: what it comes from, if that is something at another node.
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
