"""The engine's link to a client that vanishes: which values are kept, sent again, or lost."""

from collections.abc import Iterator

import pytest

from pconnect import precv, psend
from pconnect.errors import ConnectionLostError
from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.link.link_state import LinkState
from pconnect.loop.event_loop import EventLoop
from pconnect.loop.network import Mesh
from pconnect.protocol.frames import DEFAULT_LIMITS, NO_LIMIT
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, encode_message
from pserver.orphans.client_link import ClientLink, KeptValues
from srp_tools.steps import deadline_after
from tests.support.links import LIMIT, channels


class Engine:
    """An engine's link in its loop, and clients that connect and vanish."""

    def __init__(self, kept_bytes: int = 2**16) -> None:
        self.event_loop = EventLoop()
        self.link = ClientLink(DEFAULT_LIMITS, kept_bytes, lambda: self.event_loop.remove(self.link))
        self.commands: list[Message] = []
        self.link.on_message = self.commands.append
        own = Connection(1, "here", None)
        self.mesh = Mesh(bytes(16), 1, [self.link, own], self.event_loop)
        self.client = self.come()

    def come(self) -> Connection:
        near, far = channels()
        self.link.open(near)
        self.event_loop.add(self.link)
        self.client = Connection(1, "engine", far, role=Role.CLIENT_DATA)
        return self.client

    def send(self, kind: Kind, tag: int, value: object) -> None:
        self.client.post(kind, tag, value)
        self.client.flush()

    def await_vanished(self) -> None:
        self.event_loop.run_until(lambda: self.link.is_orphaned, deadline_after(LIMIT), "the client's end")

    def vanish(self) -> None:
        self.client.close()
        self.await_vanished()

    def heard(self) -> list[tuple[int, object]]:
        """Return the values that the current client has received."""
        self.event_loop.flush(self.link)
        while self.client.fill():
            pass
        return [(tag, value) for tag, queue in self.client.inbox.items() for value, _ in queue]


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.client.close()
    made.event_loop.close()


def test_values_that_were_not_taken_come_again_and_others_do_not(engine: Engine) -> None:
    for value in (1, 2, 3):
        psend(value, engine.link, tag=5)
    psend("other", engine.link, tag=6)
    assert engine.heard() == [(5, 1), (5, 2), (5, 3), (6, "other")]
    engine.send(Kind.RECEIVED, 5, None)
    engine.vanish()
    psend("meanwhile", engine.link, tag=6)
    engine.come()
    assert engine.heard() == [(5, 2), (5, 3), (6, "other"), (6, "meanwhile")]
    assert engine.link.values_sent == 4
    assert engine.link.vanished == 1


def test_what_the_client_has_sent_whole_stays_and_half_a_message_does_not(engine: Engine) -> None:
    engine.send(Kind.VALUE, 1, "whole")
    half = b"".join(encode_message(Kind.VALUE, 1, b"x" * 5000, NO_LIMIT))
    engine.client.post_encoded([half[:-1]])
    engine.client.flush()
    engine.vanish()
    engine.come()
    engine.send(Kind.VALUE, 1, "next")
    assert [precv(engine.link, tag=1, timeout=LIMIT) for _ in range(2)] == ["whole", "next"]


def test_a_wait_for_the_client_goes_on_with_the_next_one(engine: Engine) -> None:
    def come_back() -> None:
        engine.event_loop.before_poll = None
        engine.vanish()
        engine.come()
        engine.send(Kind.VALUE, 0, "from the next one")

    engine.event_loop.before_poll = come_back
    assert precv(engine.link, timeout=LIMIT) == "from the next one"


def test_arguments_of_a_command_that_cannot_come_any_more_are_not_waited_for(engine: Engine) -> None:
    engine.send(Kind.COMMAND, 7, ["f()", 0, {"call": True}])
    engine.vanish()
    assert [command.tag for command in engine.commands] == [7]
    engine.link.await_arguments(7)
    with pytest.raises(ConnectionLostError, match="disconnected before the arguments"):
        precv(engine.link, tag=LIBRARY_TAGS + 7, timeout=LIMIT)
    engine.link.await_arguments(0)
    with pytest.raises(TimeoutError):
        precv(engine.link, tag=3, timeout=0.01)


def test_collective_calls_with_it_cannot_be_completed(engine: Engine) -> None:
    engine.vanish()
    notice = engine.link.collectives.notice(0)
    assert notice is not None
    assert notice.text == "the client disconnected during the call"


def test_a_client_may_be_left_that_is_still_there(engine: Engine) -> None:
    engine.send(Kind.VALUE, 1, "its last")
    engine.link.give_up()
    assert engine.link.is_orphaned
    engine.link.give_up()  # no client is connected
    assert engine.link.vanished == 1
    assert precv(engine.link, tag=1, timeout=LIMIT) == "its last"


def test_a_client_that_breaks_the_protocol_is_left_as_well(engine: Engine) -> None:
    engine.client.post_encoded([b"nonsense" * 10])
    engine.client.flush()
    engine.await_vanished()
    assert not engine.link.error


def test_while_no_client_is_there_it_can_be_lost_as_any_other(engine: Engine) -> None:
    engine.vanish()
    engine.link.lose(ConnectionLostError("the daemon is gone"))
    assert engine.link.life.state is LinkState.CLOSED
    assert not engine.link.is_orphaned


# --- the copies ---


def value(tag: int, size: int) -> list[bytes | memoryview]:
    return encode_message(Kind.VALUE, tag, b"x" * size, NO_LIMIT)


def test_only_values_of_the_user_are_kept() -> None:
    kept = KeptValues(10_000)
    kept.add(value(LIBRARY_TAGS, 10))
    kept.add(encode_message(Kind.DONE, 1, [0.5, 0, 0, 0], NO_LIMIT))
    kept.add(value(LIBRARY_TAGS - 1, 10))
    assert len(kept.messages()) == 1


def test_the_oldest_are_forgotten_and_counted_until_the_client_has_them_anyway() -> None:
    kept = KeptValues(3000)
    for tag in (1, 1, 2):
        kept.add(value(tag, 1000))
    assert (len(kept.messages()), kept.take_lost()) == (2, 1)
    kept = KeptValues(3000)
    for tag in (1, 1, 2):
        kept.add(value(tag, 1000))
    kept.take(1)  # this one was dropped earlier
    kept.take(1)
    kept.take(1)
    assert (kept.messages(), kept.take_lost()) == ([b"".join(value(2, 1000))], 0)


def test_a_value_that_is_too_large_keeps_its_place_among_those_of_its_tag() -> None:
    kept = KeptValues(3000)
    for size in (1, 5000, 2):
        kept.add(value(1, size))
    kept.take(1)
    kept.take(1)
    assert (kept.messages(), kept.take_lost()) == ([b"".join(value(1, 2))], 0)
    kept.add(value(1, 5000))
    assert (len(kept.messages()), kept.take_lost(), kept.take_lost()) == (1, 1, 0)


def test_a_value_that_waits_for_the_next_client_is_lost_only_with_that_one() -> None:
    kept = KeptValues(3000)
    kept.add(value(1, 2000))
    kept.messages()  # the client vanishes; the value is sent to the next one
    kept.add(value(2, 5000))
    kept.add(value(1, 2000))
    assert kept.take_lost() == 0
    kept.take(1)
    kept.take(2)
    assert (kept.messages(), kept.take_lost()) == ([b"".join(value(1, 2000))], 0)


def test_values_of_several_tags_come_again_in_the_order_in_which_they_were_sent() -> None:
    kept = KeptValues(7000)
    for tag in (1, 2, 1, 3, 2, 1):  # five of them fit: the first is dropped
        kept.add(value(tag, 1000 + tag))
    kept.take(3)
    kept.take(2)
    kept.take(4)  # there is no value with this tag
    assert kept.messages() == [b"".join(value(tag, 1000 + tag)) for tag in (1, 2, 1)]
    assert kept.take_lost() == 1
    kept.take(1)
    assert kept.messages() == [b"".join(value(tag, 1000 + tag)) for tag in (2, 1)]
