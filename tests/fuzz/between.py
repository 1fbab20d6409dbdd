"""A machine in the middle between a client that logs in and a real server: it tampers with one side's messages.

It changes, cuts, doubles, delays or withholds one piece. The client must end within its time limit, with one of its own
errors or a login; the daemon must be unharmed. No engine gets any work.
"""

import contextlib
import functools
import random
import select
import socket
import threading
import time
from collections.abc import Iterator

import psutil

from pconnect import ParallelError
from pconnect.link.host_names import Host
from pconnect.protocol.frames import Limits
from pconnect.session.login import LoginTerms, log_in_at, make_terms
from pconnect.session.server import Server as LoggedIn
from srp_tools.steps import deadline_after, run_all
from tests.fuzz.strangers import faults, mutated
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until

#: The side whose messages are changed.
CLIENT, SERVER = 0, 1
#: Options of the server: logins fail here on purpose, so it must not lock clients out.
OPTIONS = ("--max-failures=0", "--max-startups=200", "--login-timeout=5", "--proof-timeout=5")
_AT_ONCE = 16
_TIMEOUT = 1.5
_GRACE = 15.0  # for a busy machine
_PIECES = 8  # the number of pieces of a login in one direction
_MAX_GROWTH = 2**26


def _spoiled(chance: random.Random, data: bytes) -> bytes | None:
    """Return the bytes to forward instead of a piece; ``None`` hangs up."""
    match chance.randrange(8):
        case 0:
            return None
        case 1:
            return data * 2
        case 2:
            time.sleep(0.2)
            return data
        case 3:
            return b""
        case _:
            return mutated(chance, data)


def _relay(ends: tuple[socket.socket, socket.socket], way: int, chance: random.Random) -> None:
    """Forward all pieces, but spoil one of them, if there are enough."""
    left = chance.randrange(_PIECES)
    end = time.monotonic() + _TIMEOUT + _GRACE
    while time.monotonic() < end:
        readable, _, _ = select.select(ends, [], [], 1)
        for sock in readable:
            data: bytes | None = sock.recv(2**16)
            if not data:
                return
            going = ends.index(sock)
            if going == way:
                data = _spoiled(chance, data) if left == 0 else data
                left -= 1
            if data is None:
                return
            ends[1 - going].sendall(data)


def _serve(client: socket.socket, port: int, way: int, seed: str) -> None:
    chance = random.Random(seed)
    # Each connection comes from a different address, so the limits for one address do not apply.
    source = f"127.{chance.randrange(1, 255)}.{chance.randrange(255)}.{chance.randrange(1, 255)}"
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        stack.enter_context(client)
        server = stack.enter_context(socket.create_connection(("127.0.0.1", port), DEADLINE, (source, 0)))
        _relay((client, server), way, chance)


@contextlib.contextmanager
def _between(port: int, way: int, seed: int) -> Iterator[int]:
    """Yield the port of a machine in the middle in front of a server's port."""
    threads: list[threading.Thread] = []

    def serve() -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                client, _ = listener.accept()
                arguments = (client, port, way, f"{seed}.{len(threads)}")
                threads.append(threading.Thread(target=_serve, args=arguments))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=serve)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for thread in threads:
        thread.join()


def _log_in(port: int, terms: LoginTerms) -> None:
    """Log in a few times concurrently. Raise errors that a client must not raise."""
    host = Host("between", "127.0.0.1", port)
    deadline = deadline_after(_TIMEOUT)
    steps = {number: log_in_at(host, 1, terms, deadline) for number in range(_AT_ONCE)}
    for outcome in run_all(steps, deadline).values():
        if isinstance(outcome, LoggedIn):
            outcome.command.close()
        elif not isinstance(outcome, ParallelError | OSError):
            raise outcome


def run(server: Server, way: int, seconds: float, seed: int) -> int:
    """Log in through it for some seconds; return the number of logins. Raise `AssertionError` after any harm."""
    here, daemon = psutil.Process(), psutil.Process(server.process.pid)
    count, end = 0, time.monotonic() + seconds
    server.connect().close()
    wait_until(lambda: not server.status_now()["sessions"], "the first client to be gone")
    before = [(process.num_fds(), process.memory_info().rss) for process in (here, daemon)]
    while time.monotonic() < end:
        began = time.monotonic()
        # A new network each time, as if no client knew of the others.
        terms = make_terms(server.credentials, Limits(), DEADLINE)
        with _between(server.cmd_port, way, seed + count) as port:
            _log_in(port, terms)
        took = time.monotonic() - began
        assert took < 2 * (_TIMEOUT + _GRACE), f"inputs from {count} of seed {seed} took {took:.0f} s"
        count += _AT_ONCE
    server.connect().close()
    assert server.process.poll() is None, "the server has ended"
    assert not faults(server.log), f"{faults(server.log)}, seed {seed}"
    wait_until(lambda: not server.status_now()["sessions"], "the sessions to be gone")
    for process, (descriptors, memory) in zip((here, daemon), before, strict=True):
        wait_until(
            functools.partial(_has_at_most, process, descriptors + 1),
            f"descriptors to be closed in {process}",
        )
        grown = process.memory_info().rss - memory
        assert grown < _MAX_GROWTH, f"{process} grew by {grown} bytes, seed {seed}"
    return count


def _has_at_most(process: psutil.Process, descriptors: int) -> bool:
    return bool(process.num_fds() <= descriptors)
