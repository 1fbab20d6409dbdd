"""Attacks on a server, each in its own process: ``python -m tests.support.attacks NAME`` with `Facts` on stdin.

An attack prints ``begun``, attacks once, checks the server's answers, and ends.
"""

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from pconnect import ParallelError, pconnect
from pconnect.link.dialing import dial
from pconnect.link.host_names import Host
from pconnect.link.nonces import new_nonce
from pconnect.protocol.frames import (
    JOB_CHANNEL,
    PREAMBLE_BYTES,
    Header,
    Limits,
    Preamble,
    Purpose,
)
from pconnect.protocol.kinds import Kind
from pconnect.routes.location import Location
from pconnect.session.login import add_node, log_in_at, make_terms
from srp_tools.channel import Channel
from srp_tools.credentials import Credentials
from srp_tools.steps import Steps, deadline_after, run
from tests.support.hellos import hello_of, weak_hellos
from tests.support.hostile import HOSTILE
from tests.support.proxies import FORTH, Meddling, proxy_to
from tests.support.strangers import Crowd, visit
from tests.support.waiting import DEADLINE

SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]


@dataclasses.dataclass
class Target:
    """The attackers' knowledge: ports, the number of an honest network, and the password of their own user."""

    cmd_port: int
    data_port: int
    network_id: str
    user: str
    password: str

    @property
    def ports(self) -> tuple[int, int]:
        return self.cmd_port, self.data_port


def assert_refused(sock: socket.socket) -> None:
    """Check that the server closes the connection and sends at most one alert first."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(2**14):
            said += data
    assert not said or (said[0] == 21 and len(said) == 7), said


# Strangers


def scan(target: Target) -> None:
    """Send all kinds of garbage to both ports."""
    words = (
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"SSH-2.0-scan\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    )
    for number in range(300):
        for port in target.ports:
            visit(port, words[number % len(words)], SOURCES[number % len(SOURCES)]).close()
        time.sleep(0.005)


def flood(target: Target) -> None:
    """Make 10,000 connections in a row."""
    for number in range(10_000):
        port = target.ports[number % 2]
        visit(port, b"\x16" if number % 3 else b"", SOURCES[number % len(SOURCES)]).close()
        if number % 20 == 0:
            time.sleep(0.005)  # otherwise the attacker would occupy one of two processors


def silence(target: Target) -> None:
    """Hold 3,000 silent connections; replace each one that is closed."""
    with Crowd(target.cmd_port, 3000, b"\x16\x03\x01", SOURCES, 3000) as crowd:
        time.sleep(2)
        assert crowd.opened >= 3000


def trickle(target: Target) -> None:
    """Send one byte per second on many connections."""
    words = {target.cmd_port: hello_of("alice"), target.data_port: Preamble(Purpose.DATA).pack()}
    with contextlib.ExitStack() as stack:
        sockets = {
            stack.enter_context(visit(port, b"", source)): said
            for port, said in words.items()
            for source in SOURCES * 4
        }
        for second in range(5):
            for sock, said in sockets.items():
                with contextlib.suppress(OSError):  # already closed
                    sock.sendall(said[second : second + 1])
            time.sleep(1)
        for sock in sockets:
            assert_refused(sock)


def downgrade(target: Target) -> None:
    """Offer versions, cipher suites and extensions that are too weak."""
    for number, hello in enumerate(weak_hellos().values()):
        with visit(target.cmd_port, hello, SOURCES[number % len(SOURCES)]) as sock:
            assert_refused(sock)
        time.sleep(0.1)


def stolen_number(target: Target) -> None:
    """Join with the number of a live network, but without its key."""
    network_id = bytes.fromhex(target.network_id)
    with contextlib.ExitStack() as stack:
        for number in range(400):
            purpose = Purpose.JOIN if number % 3 == 0 else Purpose.DATA
            preamble = Preamble(purpose, network_id, number % 2, 1, number % 4, key=secrets.token_bytes(32))
            stack.enter_context(visit(target.data_port, preamble.pack(new_nonce()), SOURCES[number % 8]))
            time.sleep(0.005)


# A dishonest user of the server


class AtRecord:
    """Forwards a number of TLS records of one side, after some plain bytes, then starts to tamper."""

    def __init__(self, fault: str, records: int, clear: int = 0) -> None:
        self._fault = fault
        self._left = records
        self._clear = clear
        self._buffer = b""
        self._is_over = False

    def __call__(self, way: int, _position: int, data: bytes) -> bytes | None:
        if way != FORTH:
            return data
        if self._is_over:
            return b"" if self._fault == "hold" else None
        self._buffer += data
        passed = self._take(self._clear)
        self._clear -= len(passed)
        while self._left and len(self._buffer) >= 5 and (record := self._take_record()):
            passed += record
            self._left -= 1
        if not self._left and not self._clear and (self._buffer or self._fault == "hold"):
            self._is_over = True
            passed += self._last_word()
        return passed

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _take_record(self) -> bytes:
        size = 5 + int.from_bytes(self._buffer[3:5], "big")
        return self._take(size) if len(self._buffer) >= size else b""

    def _last_word(self) -> bytes:
        if self._fault == "hold":
            return b""
        if self._fault == "oversize":
            return self._buffer[:3] + b"\xff\xff" + bytes(2**16)
        assert self._fault == "truncate"
        return self._buffer[: max(6, len(self._buffer) // 2)]


def _attempt(port: int, meddling: Meddling, source: str, steps: Callable[[int], Steps[Any]]) -> None:
    """Run steps through a proxy until they fail, then stay connected for a moment."""
    with proxy_to(port, meddling, source) as proxy, contextlib.suppress(ParallelError, OSError):
        run(steps(proxy.port), deadline_after(1.5))


def faulty_records(target: Target, fault: str) -> None:
    """Tamper with a login, a data connection and a JOIN at each of their records, one at a time."""
    threads = []
    with _network(target) as net:
        for number, attempt in enumerate(_attempts(target, net, fault)):
            source = SOURCES[number % len(SOURCES)]
            threads.append(threading.Thread(target=attempt, kwargs={"source": source}))
            threads[-1].start()
            time.sleep(0.15)
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()


def _attempts(target: Target, net: Any, fault: str) -> Iterator[Callable[..., None]]:
    setup, first = net.mesh.mesh_setup, net.mesh.servers[1]
    credentials = Credentials(target.user, target.password)
    terms = make_terms(credentials, Limits(), 30.0, local_links=False)
    joining = dataclasses.replace(
        terms,
        network_id=setup.network_id,
        network_key=setup.network_key,
        authority=setup.authority,
        tls=setup.tls,
    )

    def log_in(port: int) -> Steps[Any]:
        return log_in_at(Host("127.0.0.1", "127.0.0.1", port), 1, terms)

    def open_data(port: int) -> Steps[Any]:
        preamble = Preamble(Purpose.DATA, setup.network_id, 0, 1, key=setup.network_key)
        return dial([("127.0.0.1", port)], preamble, setup.tls, 30.0)

    def join(port: int) -> Steps[Any]:
        first.location = Location(first.location.address, port, port)  # and not elsewhere
        return add_node(first, 2, joining)

    for records in range(10):
        yield partial(_attempt, target.cmd_port, AtRecord(fault, records), steps=log_in)
    for steps in (open_data, join):
        for records in range(5):
            yield partial(_attempt, target.data_port, AtRecord(fault, records, PREAMBLE_BYTES), steps=steps)


def frames() -> Iterable[bytes]:
    """Yield malformed messages: of unknown kind, too long, truncated, of another protocol, and with malformed heads."""
    yield secrets.token_bytes(64)
    yield b"GET / HTTP/1.1\r\n\r\n" + bytes(20)
    yield Header(Kind.VALUE, 1, 0, 2**62).pack()
    yield Header(Kind.COMMAND, 1, 2**31, 0).pack() + bytes(100)
    yield Header(Kind.COMMAND).pack()[:3] + b"\xfe" + Header(Kind.COMMAND).pack()[4:]
    yield Header(Kind.COMMAND, 1, 100, 0).pack() + b"\x90"
    for kind in (Kind.COMMAND, Kind.WANT, Kind.CALL):
        _, head = HOSTILE[secrets.randbelow(len(HOSTILE))]
        yield Header(kind, 1, len(head), 0).pack() + head


def garbage(target: Target) -> None:
    """Log in as a user and send malformed messages on the channels of the session."""
    for where in ("command", "data"):  # unusable afterwards
        for words in frames():
            with _network(target) as net:
                _say(target, net, where, words)
    with _network(target) as net:
        for where in ("jobs", "join"):
            for words in frames():
                _say(target, net, where, words)


@contextlib.contextmanager
def _network(target: Target) -> Iterator[Any]:
    net: Any = pconnect(
        f"127.0.0.1:{target.cmd_port}",
        user=target.user,
        password=target.password,
        timeout=DEADLINE,
        local_links=False,
    )
    try:
        yield net
    finally:
        with contextlib.suppress(ParallelError, OSError):
            net.close()


def _say(target: Target, net: Any, where: str, words: bytes) -> None:
    server, setup = net.mesh.servers[1], net.mesh.mesh_setup
    if where in ("command", "data"):
        _send((server.command if where == "command" else server.data)._channel, words)
        return
    purpose, endpoint = (Purpose.DATA, JOB_CHANNEL) if where == "jobs" else (Purpose.JOIN, 0)
    preamble = Preamble(purpose, setup.network_id, 0, 1, endpoint, key=setup.network_key)
    steps = dial([("127.0.0.1", target.data_port)], preamble, setup.tls, 30.0)
    channel = run(steps, deadline_after(DEADLINE))
    _send(channel, words)
    channel.close()


def _send(channel: Channel, words: bytes) -> None:
    with contextlib.suppress(ParallelError, OSError):  # the server may close the connection at any time
        run(channel.send_all(words), deadline_after(DEADLINE))
        run(channel.receive_exactly(2**20), deadline_after(0.1))


def own_connections(target: Target) -> None:
    """Connect to the attacker's own busy session faster than it accepts, with the key of its network."""
    with _network(target) as net, contextlib.ExitStack() as stack:
        setup = net.mesh.mesh_setup
        net[1].eval("sum(i for i in range(10**12))", time_limit=2)
        for number in range(800):
            purpose = Purpose.JOIN if number % 4 == 3 else Purpose.DATA
            preamble = Preamble(purpose, setup.network_id, 0, 1, number % 4, key=setup.network_key)
            stack.enter_context(visit(target.data_port, preamble.pack(new_nonce()), SOURCES[number % 8]))
            time.sleep(0.002)


ATTACKS: dict[str, Callable[[Target], None]] = {
    "port scan": scan,
    "10,000 connections": flood,
    "3,000 silent ones": silence,
    "tricklers": trickle,
    "downgrade": downgrade,
    "a stolen number": stolen_number,
    "half-open at every step": partial(faulty_records, fault="hold"),
    "oversized records at every step": partial(faulty_records, fault="oversize"),
    "truncated records at every step": partial(faulty_records, fault="truncate"),
    "garbage in a session": garbage,
    "connections to the attacker's own session": own_connections,
}


def main() -> None:
    """Run the attack named on the command line."""
    target = Target(**json.loads(sys.stdin.read()))
    os.nice(10)
    print("begun", flush=True)
    ATTACKS[sys.argv[1]](target)


if __name__ == "__main__":
    main()
