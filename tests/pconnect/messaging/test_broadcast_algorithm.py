"""Broadcasts of large values in chunks: they arrive unchanged, and leave the root only once."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pconnect import ConnectionLostError, MessageTooLargeError, ProtocolError, bcast
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.messaging import broadcast_algorithm
from pconnect.messaging.broadcast_algorithm import cut
from pconnect.protocol.collective_inbox import group_of
from pconnect.protocol.frames import Limits
from pconnect.protocol.kinds import Kind
from pconnect.values.encoder import encode
from tests.support.links import LIMIT, networks
from tests.support.members import begin_anew, parts_of, succeed, together
from tests.support.values import assert_same

CHUNK = 10_000


@pytest.fixture(scope="module")
def five() -> Iterator[list[Network]]:
    with networks(5) as made:
        yield made


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate members on several machines."""
    monkeypatch.setattr(Connection, "transport", "tls")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_algorithm, "CHUNKED_BYTES", CHUNK)
    monkeypatch.setattr(broadcast_algorithm, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(broadcast_algorithm, "SMALLEST_CHUNK_BYTES", CHUNK // 4)


LARGE: list[object] = [
    np.arange(CHUNK - 1, dtype="u1"),
    np.arange(CHUNK, dtype="u1"),
    np.arange(4 * CHUNK, dtype="u1"),
    np.arange(4 * CHUNK + 1, dtype="u1"),
    np.asfortranarray(np.arange(100_000.0).reshape(100, 1000)),
    [np.arange(3000), {"a": bytearray(7 * CHUNK), "b": b"x" * 5001}, np.zeros((90, 90), "g"), "end"],
    np.arange(30_000).astype("M8[s]")[::2],
]


@pytest.mark.parametrize("value", LARGE, ids=range(len(LARGE)))
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.usefixtures("small_chunks")
def test_values_arrive_as_they_were(five: list[Network], n: int, value: Any) -> None:
    for root in (0, n - 1):

        def work(net: Network, root: int = root) -> Any:
            return bcast(value if net.node == root else None, net, root=root, timeout=LIMIT)

        outcomes = succeed(parts_of(five, n), work)
        assert outcomes[root] is value
        for node, outcome in enumerate(outcomes):
            if node != root:
                assert_same(value, outcome)
                assert_same(outcome, value) if isinstance(value, list) else None


def counted_bytes(nets: list[Network], monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Return a function for the bytes that each node sends from now on."""
    sent = dict.fromkeys(range(len(nets)), 0)

    def counted(connection: Any, post: Any) -> Any:
        def count(buffers: Any) -> None:
            sent[connection.mesh.node] += sum(memoryview(buffer).nbytes for buffer in buffers)
            post(buffers)

        return count

    for net in nets:
        for connection in net:
            monkeypatch.setattr(connection, "post_encoded", counted(connection, connection.post_encoded))
    return sent


def test_the_root_sends_a_large_value_once(five: list[Network], monkeypatch: pytest.MonkeyPatch) -> None:
    sent = counted_bytes(five, monkeypatch)
    value = np.random.default_rng(0).integers(0, 256, 2**24, "u1")
    outcomes = succeed(five, lambda net: bcast(value, net, timeout=LIMIT))
    assert all(np.array_equal(outcome, value) for outcome in outcomes)
    assert value.nbytes <= sent[0] < 1.01 * value.nbytes
    for node in range(1, 5):
        assert sent[node] < 1.01 * value.nbytes * 3 / 4


@pytest.mark.parametrize(("members", "times"), [(3, 2), (5, 4), (6, 1)])
def test_a_few_that_are_near_get_it_from_the_root(
    monkeypatch: pytest.MonkeyPatch, members: int, times: int
) -> None:
    monkeypatch.setattr(Connection, "transport", "unix")
    value = np.arange(2**20)
    with networks(members) as nets:
        sent = counted_bytes(nets, monkeypatch)
        outcomes = succeed(nets, lambda net: bcast(value, net, timeout=LIMIT))
    assert all(np.array_equal(outcome, value) for outcome in outcomes)
    assert times * value.nbytes <= sent[0] < 1.01 * times * value.nbytes


def test_limits_hold_for_the_whole_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_algorithm, "CHUNKED_BYTES", CHUNK)
    monkeypatch.setattr(broadcast_algorithm, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(broadcast_algorithm, "SMALLEST_CHUNK_BYTES", CHUNK // 4)
    with networks(3, limits=Limits(10 * CHUNK)) as nets:
        first, *others = together(nets, lambda net: bcast(bytes(11 * CHUNK), net, timeout=LIMIT))
        assert isinstance(first, MessageTooLargeError)
        assert all("MessageTooLargeError: the value has 1100" in str(error) for error in others)


HEAD = encode(np.zeros(5000))[0]


@pytest.mark.parametrize(
    "announcement",
    [
        None,
        [],
        [HEAD, 40_000, -1, []],
        [HEAD, 40_000, 0, []],
        [HEAD, 40_000, 0, [np.zeros(5000)]],
        [HEAD, 40_000, 0, [np.zeros(39_999, "u1")]],
        [HEAD, 40_000, 0, [np.zeros(40_000, "i1")]],
        [HEAD, 40_000, 0, [np.zeros((4, 10_000), "u1")]],
        [HEAD, 40_000, 0, [b"x" * 40_000]],
        ["text", 40_000, 0, []],
    ],
)
def test_a_root_that_breaks_the_format_is_cut_off(announcement: Any) -> None:
    with networks(3) as nets:
        contents = [group_of((0, 1, 2)), 0, "bcast(root=0)", 1, announcement]
        nets[0][1].post(Kind.COLLECTIVE, 0, contents)
        nets[0].mesh.event_loop.flush(nets[0][1])
        with pytest.raises(ConnectionLostError, match=r"node 0 \(host0\) is lost: a broadcast"):
            bcast(None, nets[1], timeout=LIMIT)
        assert isinstance(nets[1][0].error, ProtocolError)


LARGER = encode(np.empty(2**18))[0]


@pytest.mark.parametrize(
    ("head", "payload", "match"),
    [
        (b"\xc1", 5, "a malformed broadcast: malformed head"),
        (HEAD, 39_999, "a malformed broadcast: the head describes 40000 bytes"),
        (LARGER, 2**21, "a broadcast of 20.* bytes was announced, but the limit is 1048576"),
    ],
)
def test_no_memory_is_taken_for_what_is_too_large_or_not_described(
    head: bytes, payload: int, match: str
) -> None:
    with networks(3, limits=Limits(2**20)) as nets:
        nets[0][1].post(
            Kind.COLLECTIVE, 0, [group_of((0, 1, 2)), 0, "bcast(root=0)", 1, [head, payload, 100, []]]
        )
        nets[0].mesh.event_loop.flush(nets[0][1])
        with pytest.raises(ConnectionLostError, match=match):
            bcast(None, nets[1], timeout=LIMIT)
        assert isinstance(nets[1][0].error, ProtocolError)


def test_a_value_that_turns_out_to_be_malformed_at_the_end_cuts_its_sender_off() -> None:
    head = encode(Fraction(1, 2))[0]
    malformed = head[:-1] + b"\0"  # the denominator, which is checked when the value is made
    with networks(2) as nets:
        nets[0][1].post(Kind.COLLECTIVE, 0, [group_of((0, 1)), 0, "bcast(root=0)", 1, [malformed, 0, 0, []]])
        nets[0].mesh.event_loop.flush(nets[0][1])
        with pytest.raises(ConnectionLostError, match="a malformed broadcast"):
            bcast(None, nets[1], timeout=LIMIT)


def test_buffers_are_cut_alike_whatever_their_sizes() -> None:
    buffers = [memoryview(bytes(size)) for size in (1, 9, 10, 25, 3)]
    sizes = [[len(piece) for piece in chunk] for chunk in cut(buffers, 10)]
    assert sizes == [[1, 9], [10], [10], [10], [5, 3]]
    assert list(cut([], 10)) == []


def test_after_a_failure_the_next_value_is_the_next(five: list[Network]) -> None:
    assert all(
        isinstance(outcome, Exception)
        for outcome in together(five, lambda net: bcast(object(), net, timeout=LIMIT))
    )
    begin_anew(five)
    assert (
        succeed(five, lambda net: bcast("next" if net.node == 0 else None, net, timeout=LIMIT))
        == ["next"] * 5
    )
