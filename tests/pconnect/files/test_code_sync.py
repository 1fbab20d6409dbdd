"""The requests and the files sent to engines, with far ends that answer as each test prescribes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConfigurationError, EngineDiedError, Network, RemoteError
from pconnect.files.code_sync import sync_code
from pconnect.files.partial_file import RunningHash
from pconnect.link.connection import LIBRARY_TAGS
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from tests.support.links import LIMIT, FakeServer, client_of

FAILURE: dict[str, Any] = {
    "type": "OSError", "bases": ["OSError"], "message": "disk full", "traceback": "OSError: disk full",
    "values_sent": 0, "seconds": 0.0,
}  # fmt: skip


@pytest.fixture
def client() -> Iterator[tuple[Network, list[FakeServer]]]:
    with client_of(3) as made:
        yield made


Client = tuple[Network, list[FakeServer]]


class Engine:
    """An engine with some contents. It answers like a real one whenever the client's loop polls it."""

    def __init__(self, far: FakeServer, *held: bytes, failure: dict[str, Any] | None = None) -> None:
        self.far = far
        self.held = {digest_of(content) for content in held}
        self.failure = failure
        self.received: list[Any] = []
        self.changed: list[str] = []
        self._names: list[str] = []
        far.data.on_library_value = self.take

    def take(self, tag: int, value: Any) -> None:
        plain = value.finish() if hasattr(value, "finish") else value
        _, [_token, *args], _ = plain
        self.received.append(args)
        number = tag - LIBRARY_TAGS
        if self.failure is not None:
            self.far.end(number, self.failure)
            return
        match args:
            case [str(), [True, [], files]]:  # code.begin
                self._names, self.changed = [name.decode() for name, *_ in files], []
                size = files[0][1]
                self.answer(tag, [[0, size, digest, False] for digest in self.held])
            case [_kept, pieces]:  # files.put
                for index, _, data, digest in pieces:
                    self.changed.append(self._names[index])
                    self.held.add(digest)
                    assert digest_of(data) == digest
            case []:  # code.apply
                self.answer(tag, self.changed)
        self.far.end(number, 0.1)

    def answer(self, tag: int, value: object) -> None:
        self.far.data.post(Kind.VALUE, tag, [False, value])
        self.far.event_loop.flush(self.far.data)


def digest_of(content: bytes) -> bytes:
    return RunningHash.of(io.BytesIO(content)).digest()


def attend(net: Network, *engines: Engine) -> None:
    """Let the engines answer inside the client's own loop."""
    for engine in engines:
        loop = engine.far.event_loop
        for connection in (engine.far.command, engine.far.data):
            loop.remove(connection)
            net.mesh.event_loop.add(connection)


def module(folder: Path, text: str = "x = 1") -> Path:
    path = folder / "synced_a.py"
    path.write_text(text)
    return path


def test_each_gets_what_it_lacks(client: Client, tmp_path: Path) -> None:
    net, far = client
    engines = [Engine(far[0]), Engine(far[1], b"x = 1"), Engine(far[2])]
    attend(net, *engines)
    assert sync_code(module(tmp_path), net, timeout=LIMIT) == ["synced_a.py"]
    put = [[], [[0, 0, b"x = 1", digest_of(b"x = 1")]]]
    assert engines[0].received == engines[2].received
    assert engines[0].received[1:] == [put, []]
    assert engines[1].received[1:] == [[[0], []], []]
    assert sync_code(module(tmp_path), net, timeout=LIMIT) == []
    assert [engine.received[-2:] for engine in engines] == [[[[0], []], []]] * 3


def test_an_error_at_one_node_keeps_nobody_else_from_it(client: Client, tmp_path: Path) -> None:
    net, far = client
    engines = [Engine(far[0]), Engine(far[1], failure=FAILURE), Engine(far[2])]
    attend(net, *engines)
    with pytest.raises(RemoteError, match="OSError on node 2") as error:
        sync_code(module(tmp_path), net, timeout=LIMIT)
    assert isinstance(error.value, OSError)
    assert [len(engine.received) for engine in engines] == [3, 1, 3]


def test_errors_at_several_nodes_come_as_a_group(client: Client, tmp_path: Path) -> None:
    net, far = client
    attend(net, Engine(far[0]), Engine(far[1], failure=FAILURE), Engine(far[2]))
    far[2].say(Kind.DIED, {"how": "SIGKILL", "last_output": ""})
    with pytest.raises(ExceptionGroup) as group:
        sync_code(module(tmp_path), net, timeout=LIMIT)
    assert [type(error) for error in group.value.exceptions] == [
        type(group.value.exceptions[0]),
        EngineDiedError,
    ]
    assert isinstance(group.value.exceptions[0], RemoteError)


def test_a_limit_of_time_takes_back_what_has_not_begun(client: Client, tmp_path: Path) -> None:
    net, far = client
    attend(net, Engine(far[0]), Engine(far[1]))
    heard: list[Message] = []
    far[2].command.on_message = far[2].data.on_message = heard.append
    with pytest.raises(TimeoutError):
        sync_code(module(tmp_path), net, timeout=0.05)
    far[2].event_loop.run_until(lambda: len(heard) == 3, 1e12, "the client")
    kinds = [message.kind for message in heard]
    assert (kinds.count(Kind.CALL), kinds.count(Kind.CANCEL)) == (2, 1)


def test_nothing_is_sent_of_what_cannot_be(client: Client, tmp_path: Path) -> None:
    net, far = client
    with pytest.raises(ConfigurationError, match="max_bytes=3 allows"):
        sync_code(module(tmp_path), net, max_bytes=3)
    with pytest.raises(ConfigurationError, match="max_files=0"):
        sync_code(module(tmp_path).parent, net, max_files=0)
    with pytest.raises(ConfigurationError, match="choose another"):
        sync_code(module(tmp_path), net[0])
    for server in far:
        server.event_loop.poll(0)
        assert server.heard == []
