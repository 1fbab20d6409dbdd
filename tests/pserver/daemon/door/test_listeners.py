"""Connections are accepted while descriptors last; a shortage does not keep the processor busy."""

import resource
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pserver.daemon.door.arrivals import Source
from pserver.daemon.door.listeners import Listeners
from tests.support.servers import open_files
from tests.support.waiting import wait_until


class Place:
    """Listeners, and their accepted connections."""

    def __init__(self, *, has_room: bool = False) -> None:
        self.accepted: list[tuple[socket.socket, Source, bool]] = []
        self.has_room = has_room
        self.asked = 0
        self.selector = selectors.DefaultSelector()
        self.listeners = Listeners(self.selector, ["127.0.0.1"], self._take, self._make_room)
        self.ports = [
            self.listeners.listen(0, "--cmd-port", is_data=False),
            self.listeners.listen(0, "--data-port", is_data=True),
        ]

    def _take(self, sock: socket.socket, source: Source, is_data: bool) -> None:
        self.accepted.append((sock, source, is_data))

    def _make_room(self) -> bool:
        self.asked += 1
        if self.has_room and self.accepted:
            self.accepted.pop(0)[0].close()
            return True
        return False

    def turn(self, seconds: float = 0.0) -> int:
        ready = self.selector.select(seconds)
        for key, _ in ready:
            if self.selector.get_map().get(key.fd) is key:
                key.data()
        self.listeners.resume(time.monotonic())
        return len(ready)

    def close(self) -> None:
        for sock, _, _ in self.accepted:
            sock.close()
        self.listeners.close()
        self.selector.close()


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def dial(stack: ExitStack, port: int) -> socket.socket:
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))


def test_both_ports_say_what_came(clients: ExitStack) -> None:
    place = Place()
    clients.callback(place.close)
    for port in place.ports:
        own = dial(clients, port).getsockname()
        before = len(place.accepted)
        while len(place.accepted) == before:
            place.turn(1.0)
        sock, source, is_data = place.accepted[-1]
        assert (str(source), is_data) == (f"127.0.0.1 port {own[1]}", port == place.ports[1])
        assert not sock.getblocking()


@pytest.mark.parametrize("has_room", [True, False])
def test_a_reserve_of_descriptors_stays_free(clients: ExitStack, has_room: bool) -> None:
    """One process has both ends here, so each connection takes two descriptors."""
    total = open_files() + 60
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (total, before[1]))
    try:
        place = Place(has_room=has_room)
        clients.callback(place.close)
        for _ in range(25):
            dial(clients, place.ports[0])
            place.turn(0.02)
        reserve = total // 4
        taken = [sock.fileno() < total - reserve for sock, _, _ in place.accepted]
        assert place.asked > 0
        assert (place.listeners.next_deadline() is None) == has_room
        assert all(taken)
        assert len(taken) < 25
        if not has_room:  # connections of known networks are still accepted
            place.listeners.resume(time.monotonic() + 10)
            dial(clients, place.ports[1])
            place.turn(0.02)
            assert place.accepted[-1][2]
            for sock, _, _ in place.accepted:
                sock.close()
            place.listeners.resume(time.monotonic() + 10)
            place.turn(0.02)
            assert len(place.accepted) == 26  # the connections that had to wait
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_any_descriptor_they_pause_and_go_on(
    clients: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place()
    clients.callback(place.close)
    dialled = socket.socket()
    clients.enter_context(dialled)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    dialled.connect(("127.0.0.1", place.ports[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        assert place.turn(5.0) == 1
        assert "connections must wait: Too many open files" in caplog.text
        deadline = place.listeners.next_deadline()
        assert deadline is not None
        assert deadline > time.monotonic()
        assert place.turn(0.1) == 0  # it does not spin
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    wait_until(lambda: bool(place.turn(0.1) or place.accepted), "the connection that has waited")
    while not place.accepted:
        place.turn(1.0)
    assert len(caplog.records) == 1


def test_the_path_of_the_local_socket_is_made_again(clients: ExitStack, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "default.socket"
    place = Place()
    clients.callback(place.close)
    place.listeners.look_after_paths()  # there is none yet
    assert place.listeners.listen_locally(path, is_data=True)
    before = open_files()
    path.unlink()
    place.listeners.look_after_paths()
    assert open_files() == before
    sock = clients.enter_context(socket.socket(socket.AF_UNIX))
    sock.connect(str(path))
    place.turn(1.0)
    assert [is_data for _, _, is_data in place.accepted] == [True]
