import errno
import os
import random
import selectors
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect.link import local_channel
from pconnect.link.local_channel import LocalChannel
from srp_tools.errors import ConnectionLostError
from srp_tools.steps import Steps, Wait, deadline_after, run_all
from tests.support.channels import BIG, LIMIT, local_pair

Pair = tuple[LocalChannel, LocalChannel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = local_pair()
    yield left, right
    left.close()
    right.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each large send count as slow."""
    monkeypatch.setattr(local_channel, "_SLOW_SECONDS_PER_BYTE", 0.0)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def send_in_parts(channel: LocalChannel, data: bytes, sizes: random.Random) -> Steps[None]:
    view = memoryview(data)
    while view:
        size = sizes.choice([1, 1000, 2**17, 2**17 + 1, 2**19, 2**21])
        sent = channel.send(view[:size])
        if not sent:
            yield Wait(channel.fileno(), selectors.EVENT_WRITE)
        view = view[sent:]


def receive_in_parts(channel: LocalChannel, count: int, sizes: random.Random) -> Steps[bytes]:
    received, buffer = bytearray(), memoryview(bytearray(2**21))
    while len(received) < count:
        arrived = channel.receive_into(buffer[: sizes.choice([1, 5000, 2**16, 2**21])])
        assert arrived != 0, "the end of the stream"
        received += buffer[: arrived or 0]
        if not arrived or sizes.random() < 0.1:  # now and then, let the sender continue alone
            yield Wait(channel.fileno())
    return bytes(received)


def transfer(pair: Pair, seed: int) -> bool:
    left, right = pair
    data = random.Random(seed).randbytes(2**23)
    steps: dict[str, Steps[bytes | None]] = {
        "send": send_in_parts(left, data, random.Random(seed)),
        "receive": receive_in_parts(right, len(data), random.Random(seed + 1)),
    }
    return run_all(steps, deadline_after(LIMIT)) == {"send": None, "receive": data}


@pytest.mark.usefixtures("slow")
def test_what_passes_the_ring_arrives_as_it_was(pair: Pair) -> None:
    for seed in range(10):
        assert transfer(pair, seed)
    assert pair[0]._large_writer.ring_bytes > 2**25


@pytest.mark.usefixtures("slow")
def test_the_ring_is_not_written_where_it_was_not_read(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    # Smaller than the system's buffer, so it is often full.
    monkeypatch.setattr(local_channel, "_RING_BYTES", 2**18)
    for seed in range(10):
        assert transfer(pair, seed)
    assert 0 < pair[0]._large_writer.ring_bytes < 9 * 2**23


def test_a_ring_is_used_only_while_the_system_is_slow(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_channel, "_SLOW_SECONDS_PER_BYTE", 1.0)
    assert transfer(pair, 1)
    writer = pair[0]._large_writer
    assert writer.ring_bytes == 0
    monkeypatch.setattr(local_channel, "_RING_PERIOD_BYTES", 2**19)
    monkeypatch.setattr(local_channel, "_SLOW_SECONDS_PER_BYTE", 0.0)
    while not writer.ring_bytes:
        assert transfer(pair, 2)
    monkeypatch.setattr(local_channel, "_SLOW_SECONDS_PER_BYTE", 1.0)
    assert transfer(pair, 3)
    before, files = writer.ring_bytes, descriptors()
    assert transfer(pair, 4)
    assert writer.ring_bytes == before and descriptors() == files


@pytest.mark.usefixtures("slow")
def test_a_system_that_has_no_such_thing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "refused")

    monkeypatch.setattr(os, "sendfile", refuse)
    assert transfer(pair, 1)
    assert pair[0]._large_writer.ring_bytes == 0


@pytest.mark.usefixtures("slow")
def test_a_process_has_a_few_rings_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_channel, "_MAX_RINGS", 2)
    pairs = [local_pair() for _ in range(4)]
    for number, pair in enumerate(pairs):
        assert transfer(pair, 1)
        assert (pair[0]._large_writer.ring_bytes > 0) == (number < 2)
    for left, right in pairs:
        left.close()
        right.close()
    last = local_pair()
    assert transfer(last, 1)
    assert last[0]._large_writer.ring_bytes > 0
    last[0].close()
    last[1].close()


@pytest.mark.usefixtures("slow")
def test_what_was_sent_before_the_end_arrives(pair: Pair) -> None:
    left, right = pair
    assert transfer(pair, 1)
    sent = left.send(BIG)
    left.close()
    assert 2**17 < sent < len(BIG)
    steps = receive_in_parts(right, sent, random.Random(1))
    assert run_all({"receive": steps}, deadline_after(LIMIT)) == {"receive": BIG[:sent]}
    assert right.receive_into(memoryview(bytearray(1))) == 0


@pytest.mark.usefixtures("slow")
def test_a_peer_that_is_gone(pair: Pair) -> None:
    left, right = pair
    assert transfer(pair, 1)
    assert left._large_writer.ring_bytes > 0
    right.close()
    with pytest.raises(ConnectionLostError):
        left.send(BIG)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("end", [LocalChannel.close, LocalChannel.abandon])
def test_no_descriptor_is_left(end: object) -> None:
    assert callable(end)
    before = descriptors()
    left, right = local_pair()
    assert transfer((left, right), 1)
    assert descriptors() > before + 2  # including those of the ring
    end(left)
    end(right)
    assert descriptors() == before
