"""Strangers on the ports of a real server: changed first messages on the command port and on the data port.

In between, an honest client connects. Afterwards the daemon has no more descriptors and hardly more memory than before.
"""

import contextlib
import random
import re
import socket
import struct
import threading
import time

import psutil

from pconnect import ParallelError, pconnect
from pconnect.protocol.frames import PREAMBLE_BYTES, PREAMBLE_MAGIC, VERSION
from tests.support.servers import Server
from tests.support.waiting import wait_until

_AT_ONCE = 8
_HONEST_EVERY = 100
_MAX_GROWTH = 2**24
_ERROR = re.compile(r"[\w.]+(Error|Exception|Interrupt|Exit|KeyError|StopIteration)\b")


def client_hello(server: Server) -> bytes:
    """Return the first bytes of an honest login."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def connect() -> None:
            with contextlib.suppress(ParallelError, OSError, TimeoutError):
                pconnect(
                    [f"127.0.0.1:{listener.getsockname()[1]}"],
                    user=server.credentials.user,
                    password=server.credentials.password,
                    timeout=2,
                )

        thread = threading.Thread(target=connect)
        thread.start()
        sock, _ = listener.accept()
        with sock:
            data = sock.recv(2**14)
        listener.close()
        thread.join()
    return data


def preamble(chance: random.Random) -> bytes:
    """Return a preamble of a network that does not exist."""
    head = PREAMBLE_MAGIC + struct.pack("!BB", VERSION, chance.randrange(1, 8))
    return head + chance.randbytes(PREAMBLE_BYTES - len(head))


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Return some bytes with bits flipped, pieces cut out, doubled or inserted, or truncated."""
    changed = bytearray(data)
    for _ in range(chance.randrange(6)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                del changed[at : at + chance.randrange(20)]
            case 2:
                changed[at:at] = changed[at : at + chance.randrange(40)]
            case 3:
                changed[at:at] = chance.randbytes(chance.randrange(20))
            case _:
                del changed[at:]
    return bytes(changed)


def speak(port: int, data: bytes, chance: random.Random) -> socket.socket:
    """Connect and send bytes, perhaps in two pieces; return the connection."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    cut = chance.randrange(len(data) + 1)
    with contextlib.suppress(OSError):  # the server may have closed the connection already
        sock.sendall(data[:cut])
        sock.sendall(data[cut:])
        if chance.random() < 0.3:
            sock.shutdown(socket.SHUT_WR)
    return sock


def faults(log: str) -> set[str]:
    """Return the unexpected errors in a log, each with the place that raised it."""
    found = set()
    for part in log.split("Traceback (most recent call last):")[1:]:
        lines = [line.strip() for line in part.splitlines()]
        last = next((line for line in lines if _ERROR.match(line)), "?")
        places = [
            line for line in lines[: lines.index(last) if last in lines else 0] if line.startswith("File")
        ]
        found.add(f"{last} ({places[-1] if places else '?'})")
    return found


def run(server: Server, name: str, seconds: float, seed: int) -> int:
    """Send strangers for some seconds; return their number. Raise `AssertionError` after any harm."""
    chance = random.Random(seed)
    daemon = psutil.Process(server.process.pid)
    hello = client_hello(server)
    port = server.cmd_port if name == "login" else server.data_port
    server.connect().close()
    descriptors, memory = daemon.num_fds(), daemon.memory_info().rss
    open_now: list[socket.socket] = []
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        first = hello if name == "login" else preamble(chance)
        open_now.append(speak(port, mutated(chance, first), chance))
        count += 1
        if len(open_now) > _AT_ONCE:
            open_now.pop(0).close()
        if count % _HONEST_EVERY == 0:
            server.connect().close()
    for sock in open_now:
        sock.close()
    server.connect().close()
    assert server.process.poll() is None, "the server has ended"
    wait_until(lambda: daemon.num_fds() <= descriptors + 1, "the descriptors to be closed")
    grown = daemon.memory_info().rss - memory
    assert grown < _MAX_GROWTH, f"the server grew by {grown} bytes, seed {seed}"
    assert not faults(server.log), f"{faults(server.log)}, seed {seed}"
    return count
