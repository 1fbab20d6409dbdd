"""A server that is none: between a client and a real server, something changes what the server answers.

The client must end within its time limit, by one of its own errors or, where nothing was changed, with a network.
"""

import contextlib
import random
import select
import socket
import threading
import time
from collections.abc import Iterator

import psutil

from pconnect import ParallelError, pconnect
from tests.fuzz.strangers import mutated
from tests.support.servers import Server

_TIMEOUT = 2.0
_GRACE = 10.0  # for a busy machine
_MAX_GROWTH = 2**26


def _relay(client: socket.socket, server: socket.socket, chance: random.Random) -> None:
    """Pass on what comes, and change one answer of the first few."""
    left = chance.randrange(5)
    end = time.monotonic() + _TIMEOUT + _GRACE
    while time.monotonic() < end:
        readable, _, _ = select.select([client, server], [], [], 1)
        for sock in readable:
            data = sock.recv(2**16)
            if not data:
                return
            if sock is server:
                left -= 1
                data = mutated(chance, data) if left == 0 else data
            (client if sock is server else server).sendall(data)


@contextlib.contextmanager
def _between(server: Server, chance: random.Random) -> Iterator[int]:
    """Give the port of what stands between a client and a server, for one connection."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", server.cmd_port)) as real:
                _relay(client, real, chance)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def run(server: Server, seconds: float, seed: int) -> int:
    """Log in through it for some seconds; return how often. Raises what a client may not raise."""
    chance = random.Random(seed)
    here = psutil.Process()
    count, end = 0, time.monotonic() + seconds
    server.connect().close()
    descriptors, memory = here.num_fds(), here.memory_info().rss
    while time.monotonic() < end:
        began = time.monotonic()
        with _between(server, chance) as port, contextlib.suppress(ParallelError, OSError):
            pconnect(
                [f"127.0.0.1:{port}"],
                user=server.credentials.user,
                password=server.credentials.password,
                timeout=_TIMEOUT,
            ).close()
        assert time.monotonic() - began < 2 * (_TIMEOUT + _GRACE), (
            f"input {count} of seed {seed} took too long"
        )
        count += 1
    server.connect().close()
    assert here.num_fds() <= descriptors + 1, f"descriptors stay open, seed {seed}"
    assert here.memory_info().rss - memory < _MAX_GROWTH, f"the client grew, seed {seed}"
    return count
