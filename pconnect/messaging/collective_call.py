"""One collective call on one member: who takes part, which messages belong to it, and how it ends on all members.

Matching. The members are the nodes of a network or of a part of one, and a member's *rank* is its place in it. The n-th
call of the same members in an epoch is the same call everywhere (`pconnect.protocol.collective_inbox`). Every message
of a call carries the name and options of the call as text, such as ``"reduce(op='sum', root=0)"``. A member that
receives a text different from its own raises an error.

All members exchange this information through a tree with rank 0 at the root (`pconnect.messaging.tree`), so no member
sends or receives more than a few messages for it. A member that has nothing else to send to its parent announces itself
there immediately. So if two members make different calls, some parent and child discover it.

Ending. A member that has its result, and knows that its children have theirs, notifies its parent. Rank 0 then knows
that all members are complete and notifies its children; each member passes that on and returns. No member returns
earlier. Therefore a waiting member watches all the others, whichever it waits for, and the loss of any member makes the
call fail. There is one exception: after a member has reported that it is complete, the final notice may still be on its
way to it while another member has already received it, returned and failed. So the member waits for a grace period.

Watching all the others is free: `Mesh.suspects` contains the nodes with failures. Only the client checks all members
now and then, because the state of its servers may change without a message.

Leaving. When anything goes wrong on a member, it notifies all nodes (`leave`), and each of them raises an error if it
needs this member. A half-finished call cannot be continued, so a member that has left takes part in no later call until
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
from srp_tools.steps import deadline_after, describe_seconds

_MAX_TEXT = 4000  # characters of an error that are sent to the other nodes
_GRACE = 1.0  # seconds
_LOOK_EVERY = 0.05  # seconds between the client's checks of all members, as long as nothing has failed


class _Before(NamedTuple):
    """The state at the beginning of a call."""

    members: Sequence[int] | None  # the nodes of the network, if the call is on the whole network
    generations: Mapping[int, int]  # of the suspects
    began: float  # an instant of `time.monotonic`


class Call:
    """A collective call in progress. `collective` creates it."""

    def __init__(self, network: Network, name: str, timeout: float | None) -> None:
        mesh = mesh_for(network, name)
        mesh.event_loop.catch_up()
        self.name = name
        self.mesh = mesh
        self.nodes = tuple(network.nodes)
        #: This node's place among the members.
        self.rank = ranks_of(self.nodes)[mesh.node]
        self._parents = tree.parents(self.rank, 0, self.size)
        self._children = tree.children(self.rank, 0, self.size)
        # The generations of all other members were 0: a restarted node remains a suspect.
        generations = {node: mesh.connections[node].generation for node in mesh.suspects}
        # A change of the network replaces the list of its members.
        self._before = _Before(mesh.members if network.is_whole else None, generations, time.monotonic())
        self._next_look = 0.0  # when the client checks all members again
        self._text = f"{name}()"
        self._deadline = deadline_after(timeout)
        self._announced = not self._parents
        self._completed = False
        # When failures of other nodes were noticed, after this member was complete.
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
        """The ranks of all members except this one."""
        return [*range(self.rank), *range(self.rank + 1, self.size)]

    # --- options that all members must agree on ---

    def agree(self, **terms: object) -> None:
        """Add options that must be the same on all members. Call this before anything is sent."""
        words = ", ".join(f"{name}={term!r}" for name, term in terms.items())
        before = self._text[:-1]
        self._text = f"{before}{'' if before.endswith('(') else ', '}{words})"

    def agree_on_root(self, root: int) -> int:
        """Return the rank of the root. All members must agree on it."""
        rank = operator.index(root)
        if not -self.size <= rank < self.size:
            raise ConfigurationError(f"root={root}: the call has only {self.size} members")
        self.agree(root=rank % self.size)
        return rank % self.size

    # --- moving values ---

    def post(self, ranks: Iterable[int], value: object) -> None:
        """Queue a value for some members. It is encoded once, and arrays are not copied."""
        try:
            self._post(ranks, Step.DATA, value)
        except UnsupportedValueError as error:
            # The user's value is a part of our message. Correct the path in the error accordingly.
            text = str(error).replace(f"value[{PART_VALUE}]", "value", 1)
            raise UnsupportedValueError(text) from None

    def in_rank_order(self, own: object, count: int) -> Iterator[Any]:
        """Yield the values of the first `count` members in rank order, as soon as possible; `own` is this member's."""
        for rank in range(count):
            if rank != self.rank:
                self._wait_in_order(rank, count)
            yield own if rank == self.rank else self.take_value(rank)

    def _wait_in_order(self, rank: int, count: int) -> None:
        # Called after each message, so it checks only this rank; the others matter only for the text of an error.
        self.run(
            lambda: [] if self.has_value(rank) else [rank],
            lambda: [r for r in range(rank, count) if r != self.rank and not self.has_value(r)],
        )

    def receive(self, rank: int) -> Any:
        """Wait for the next value of a member and return it."""
        self.wait_for(rank)
        return self.take_value(rank)

    def wait_for(self, rank: int) -> None:
        """Return when a value of a member has arrived."""
        self.run(lambda: [] if self.has_value(rank) else [rank])

    def has_value(self, rank: int) -> bool:
        """Whether a value of a member has arrived."""
        return self._step(rank) is Step.DATA

    def take_value(self, rank: int) -> Any:
        """Return the next value of a member, which has already arrived."""
        with self.mesh.event_loop.sigint_deferred:
            value = self._member(rank).take_collective(self._key).value
        if type(value) is Unfinished:
            try:
                return value.finish(self.look)
            except ProtocolError as error:
                self.refuse(rank, str(error))
        return value

    def look(self) -> None:
        """Raise `TimeoutError` if the time limit has passed. Long computations call this repeatedly."""
        look_until(self._deadline, self._before.began)()

    def run(
        self, work: Callable[[], Collection[int]], awaited: Callable[[], Collection[int]] | None = None
    ) -> None:
        """Serve all connections until `work` returns no ranks. `work` is called after each change.

        It returns ranks that it waits for. If that may be only some of them, `awaited` returns all, for the text of an
        error.
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
            # The failure of any member ends the call, whichever member it waits for.
            everybody = tuple(node for node in self.nodes if node != self.mesh.node)
            return Wait(self.name, everybody, tuple(self.nodes[rank] for rank in all_needed()))

        try:
            self.mesh.event_loop.run_until(ended, self._deadline, self.name, wait)
        except TimeoutError:
            ranks = all_needed()
            words = names([self._member(rank) for rank in ranks])
            if any(rank in self._children and tree.children(rank, 0, self.size) for rank in ranks):
                words += ", or members behind them"
            waited = describe_seconds(self._deadline - self._before.began)
            raise TimeoutError(f"{self} timed out after {waited} waiting for {words}") from None

    def complete(self) -> None:
        """Return when all members have their results."""
        self._wait_for(self._children, Step.COMPLETE)
        if not self._parents:
            self._check()  # no member has returned yet
            self._post(self._children, Step.ALL_COMPLETE, None)
        else:
            self._post(self._parents, Step.COMPLETE, None)
            self._completed = True
            with self.mesh.event_loop.sigint_deferred:  # a member that received the notice must pass it on
                self._wait_for(self._parents, Step.ALL_COMPLETE)
                self._post(self._children, Step.ALL_COMPLETE, None)
        children = [self._member(rank) for rank in self._children]
        self.mesh.event_loop.run_until(
            lambda: not any(child.wants_to_write for child in children), self._deadline, f"room in {self}"
        )

    def refuse(self, rank: int, reason: str) -> NoReturn:
        """Close the connection to a member that violated the protocol, and raise the error."""
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
        """Return the step of the next message of a member, or ``None`` if there is none."""
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

    # --- reasons why the call cannot complete ---

    def _check(self) -> None:
        members = self._before.members
        if members is not None and members is not self.mesh.members and not self._completed:
            raise self._error(f"{self.mesh.change} during the call")
        for rank in self._children:
            self._step(rank)  # raises an error if it is in another call
        for rank in self._suspects():
            if rank in self._parents or not self._completed or self._grace_period_over(self._member(rank)):
                self._step(rank)
                self._check_member(rank)

    def _suspects(self) -> list[int]:
        """Return the ranks of members that may be unable to complete the call."""
        if self.mesh.node == 0 and (self.mesh.has_failures or time.monotonic() >= self._next_look):
            self._next_look = time.monotonic() + _LOOK_EVERY
            return self.others
        ranks = ranks_of(self.nodes)
        return [ranks[node] for node in self.mesh.suspects if node in ranks and node != self.mesh.node]

    def _grace_period_over(self, member: Connection) -> bool:
        """Whether a member failed so long ago that rank 0's final notice, if there was one, would have arrived."""
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
            raise self._error(f"{names([member])} was restarted during the call")
        if notice := member.collectives.notice(epoch):
            self._raise_notice(notice)
        if member.collectives.is_ahead(group, epoch):
            raise self._error(f"{names([member])} has begun a new epoch with a later command")
        member.peer.check_epoch(epoch)
        # It cannot have finished this call already, and while the client waits here, it sends no command.
        if not self._completed and not member.peer.busy:
            raise self._error(
                f"{names([member])} is not running a command that could join it: use reval first"
            )

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
        """Announce that this node leaves the collective calls. Copies unsent data."""
        with self.mesh.event_loop.sigint_deferred:
            for rank in self.others:
                if self._member(rank).has_unsent:
                    self._member(rank).keep_unsent()
            leave(self.mesh, error, self._origin)

    def __str__(self) -> str:
        return f"{self.name} of nodes {', '.join(map(str, self.nodes))}"

    @property
    def peers(self) -> list[Peer]:
        """The other members that can be interrupted. Only the client has any."""
        return [self._member(rank).peer for rank in self.others] if self.mesh.node == 0 else []


@contextmanager
def collective(network: Network, name: str, timeout: float | None) -> Iterator[Call]:
    """Make a collective call. The block is this member's part of it.

    Raises `ConfigurationError` if this node is not a member; nothing was sent. Raises `CollectiveError` if this node
    has left the collective calls of this epoch.
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
    """Leave the collective calls of this epoch, and notify all nodes of the reason.

    `error`: what went wrong on this node. `origin`: the cause, if it is on another node.
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
    except Exception:  # noqa: BLE001 - the user's exception type cannot be converted to text
        return type(error).__qualname__
