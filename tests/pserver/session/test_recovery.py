"""The supervisor's side of recovery, with a job store and without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.jobs.job import LOST
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, decode_messages, encode_message
from pserver.jobs.job_store import JobStore, digest_of
from pserver.session import recovery
from pserver.session.recovery import Recovery

NETWORK, SECRET = bytes(range(16)), b"a secret"


class Channel:
    """A job channel that keeps the messages."""

    error = None

    def __init__(self) -> None:
        self.posted: list[Message] = []
        self.unsent_bytes = 0

    def post(self, kind: Kind, tag: int = 0, value: object = None) -> None:
        self.posted.append(Message(kind, tag, value))

    def post_encoded(self, buffers: list[bytes]) -> None:
        self.unsent_bytes += sum(map(len, buffers))
        self.posted += decode_messages(Role.SCHEDULER, b"".join(buffers))

    def take(self) -> list[tuple[Kind, int, Any]]:
        posted, self.posted = self.posted, []
        return [message[:3] for message in posted]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore.make(tmp_path, NETWORK, 1, "alice", digest_of(SECRET))
    for number in range(1, 4):
        store.add_job(number, {"name": f"f{number}", "limit": None, "grace": 5.0, "parts": []}, b"")
    yield store
    store.remove()


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def recovering(store: JobStore, channel: Channel) -> Recovery:
    made = Recovery(store.folder.parent, "alice", lambda: channel, lambda _: None)  # type: ignore[arg-type, return-value]
    made.hear(Message(Kind.RECOVER, 0, [NETWORK, 1, SECRET]))
    assert channel.take() == [(Kind.RECOVER, 0, [[n, f"f{n}", None, 5.0] for n in (1, 2, 3)])]
    return made


def result(number: int, value: object = "x") -> list[bytes | memoryview]:
    return encode_message(Kind.RESULT, number, [0, value, 0.0, 0.0], 2**20)


def test_results_are_sent_as_they_appear(recovering: Recovery, store: JobStore, channel: Channel) -> None:
    assert channel.take() == []
    store.keep(2, result(2))
    recovering.tend()
    assert channel.take() == [(Kind.RESULT, 2, [0, "x", 0.0, 0.0])]
    store.keep(1, result(1))
    store.keep(3, result(3))
    recovering.tend()
    assert [tag for _, tag, _ in channel.take()] == [1, 3]
    for number in (1, 2, 3):
        recovering.hear(Message(Kind.TAKE, number, None))
    assert channel.take() == [(Kind.TAKE, number, True) for number in (1, 2, 3)]
    assert recovering.tend() == float("inf")
    store.end("")
    assert not store.folder.exists()


def test_the_folder_is_listed_once_for_all_claims(
    recovering: Recovery, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a list for each claim, the results of 4000 jobs took 23 s instead of 0.3 s."""
    listed: list[Path] = []

    def numbers(self: JobStore) -> list[int]:
        listed.append(self.folder)
        return []

    monkeypatch.setattr(JobStore, "numbers", numbers)
    for number in (1, 2, 3):
        recovering.hear(Message(Kind.TAKE, number, None))
    assert listed == [store.folder]


@pytest.mark.parametrize("is_read", [True, False])
def test_the_folder_is_removed_after_the_claims_of_several_clients(
    recovering: Recovery, store: JobStore, is_read: bool
) -> None:
    for number in (1, 2, 3):
        store.keep(number, result(number))
    store.close()  # its supervisor has ended
    if is_read:
        recovering.tend()
    assert store.take(1) and store.take(3)
    recovering.hear(Message(Kind.TAKE, 2, None))
    for number in (1, 3):
        recovering.hear(Message(Kind.TAKE, number, None)) if is_read else recovering.tend()
    assert not store.folder.exists()


def test_no_more_is_read_than_the_client_takes(
    recovering: Recovery, store: JobStore, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_MAX_UNSENT_BYTES", 1000)
    for number in (1, 2, 3):
        store.keep(number, result(number, "x" * 600))
    recovering.tend()
    assert [tag for _, tag, _ in channel.take()] == [1, 2]
    recovering.tend()
    assert channel.take() == []
    channel.unsent_bytes = 0
    recovering.tend()
    assert [tag for _, tag, _ in channel.take()] == [3]


def test_a_job_that_is_to_end(
    recovering: Recovery, store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.keep(3, result(3))
    recovering.tend()
    for number in (2, 3, 9):  # a running job, a job that has ended, another user's job
        recovering.hear(Message(Kind.STOP, 0, [number, 1.5]))
    assert store.stops() == {2: 1.5}
    (store.folder / "stops" / "2").unlink()
    (store.folder / "stops").rmdir()
    (store.folder / "stops").touch()
    recovering.hear(Message(Kind.STOP, 0, [1, 1.5]))
    assert "cannot cancel job 1" in caplog.text


def test_what_another_has_taken(recovering: Recovery, store: JobStore, channel: Channel) -> None:
    store.keep(1, result(1))
    recovering.tend()
    assert store.take(1) and store.take(2)
    recovering.hear(Message(Kind.TAKE, 1, None))
    recovering.tend()
    assert [message for message in channel.take() if message[0] is Kind.TAKE] == [
        (Kind.TAKE, 1, False),
        (Kind.TAKE, 2, False),
    ]


def test_a_folder_that_was_moved_away_is_awaited(
    recovering: Recovery, store: JobStore, channel: Channel
) -> None:
    store.keep(2, result(2))
    away = store.folder.rename(store.folder.with_name("away"))
    recovering.tend()
    assert channel.take() == []
    away.rename(store.folder)
    recovering.tend()
    assert channel.take() == [(Kind.RESULT, 2, [0, "x", 0.0, 0.0])]


def test_without_a_supervisor_the_rest_is_lost(
    recovering: Recovery, store: JobStore, channel: Channel
) -> None:
    store.keep(2, result(2))
    store.end("the server was stopped")
    recovering.tend()
    told = {tag: value[:2] for _, tag, value in channel.take()}
    assert told == {n: [LOST, "the server was stopped"] for n in (1, 3)} | {2: [0, "x"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([NETWORK, 2, SECRET], "nothing of this network is kept here"),
        ([NETWORK, 1, b"guess"], "the secret in the token is wrong"),
        ([NETWORK, "../x", SECRET], "is not a node number"),
        ([5], "cannot read the kept results"),
        (None, "cannot read the kept results"),
        (["x", 1, SECRET], "cannot read the kept results"),
    ],
)
def test_what_is_refused(value: object, text: str, recovering: Recovery, channel: Channel) -> None:
    recovering.hear(Message(Kind.RECOVER, 0, value))
    [(kind, _, answer)] = channel.take()
    assert kind is Kind.RECOVER and text in answer
