"""A misbehaving session: it returns to a real daemon and sends arbitrary messages.

Honest clients connect and use slots meanwhile. Afterwards the daemon is alive, has logged no internal error, and has no
more descriptors and hardly more memory than before.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from pconnect.link.local_link import connect
from pconnect.views.network_views import ClientNetwork
from tests.fuzz.odd_descriptors import OddDescriptors
from tests.fuzz.session_words import back_words, changed, count_of, session_words
from tests.fuzz.strangers import faults
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until

_MAX_GROWTH = 2**24
_NODES = 10  # nodes of one returning session
_PAUSE = 0.002  # seconds of waiting after a message that the daemon has no room for
_HONEST_EVERY = 5  # sessions


def _said(sock: socket.socket, data: bytes, ends: list[int]) -> bool:
    """Send a message; return whether the daemon still reads."""
    for _ in range(5000):
        try:
            with contextlib.suppress(BlockingIOError):
                sock.recv(2**12)  # the daemon drops sessions that receive nothing
            socket.send_fds(sock, [data], ends)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:
            return False
        else:
            return True
    raise AssertionError("the daemon does not listen")


class _Guest:
    """A guest that poses as a session; its process, which shows the daemon the session's end, sleeps."""

    def __init__(self, path: Path, folder: Path, chance: random.Random, stack: contextlib.ExitStack) -> None:
        self._path = path
        self._folder = folder
        self._chance = chance
        self._stack = stack
        self._words = session_words(folder)
        self._odd = OddDescriptors(stack)
        process = subprocess.Popen(["/bin/sleep", "1000"])
        stack.callback(process.wait)
        stack.callback(process.kill)
        self._own = os.pidfd_open(process.pid)
        stack.callback(os.close, self._own)

    def be_node(self) -> int:
        """Return as a node, and send until the daemon hangs up; return the number of messages."""
        chance = self._chance
        sock = self._stack.enter_context(connect(self._path, socket.SOCK_SEQPACKET))
        sock.setblocking(False)
        back = back_words(self._folder, os.getpid(), chance.randrange(1, 4))
        if chance.random() < 0.5:
            listens = _said(sock, json.dumps(back).encode(), [self._own, *self._odd.handovers])
        else:
            listens = _said(sock, changed(chance, back), self._odd.some(chance, count_of(chance, 4)))
        count = 1
        while listens and chance.random() < 0.95:
            what, right = chance.choice(self._words)
            data, ends = changed(chance, what), self._odd.some(chance, count_of(chance, right))
            listens = _said(sock, data, [self._own] if right and chance.random() < 0.2 else ends)
            count += 1
        return count


def _is_unharmed(net: ClientNetwork, server: Server) -> None:
    """Check that honest clients keep their engines and slots, and that new ones can connect."""
    assert net.eval("1 + 1").result(DEADLINE) == [2]
    assert net.submit(abs, -3).result(DEADLINE) == 3
    server.connect().close()


def run(server: Server, seconds: float, seed: int) -> int:
    """Let guests send for some seconds; return their number of messages. Raise `AssertionError` after any harm."""
    chance = random.Random(seed)
    daemon = psutil.Process(server.process.pid)
    path = next(server.folder.rglob("*.sessions"))
    count = sessions = 0
    end = time.monotonic() + seconds
    with server.connect() as net, tempfile.TemporaryDirectory() as folder:
        _is_unharmed(net, server)
        wait_until(lambda: len(server.status_now()["sessions"]) == 1, "the other to be gone")
        descriptors, memory = daemon.num_fds(), daemon.memory_info().rss
        processes = len(daemon.children(recursive=True))
        while time.monotonic() < end:
            with contextlib.ExitStack() as stack:
                guest = _Guest(path, Path(folder), chance, stack)
                for _ in range(_NODES):
                    count += guest.be_node()
            sessions += 1
            if sessions % _HONEST_EVERY == 0:
                _is_unharmed(net, server)
        _is_unharmed(net, server)
        assert server.process.poll() is None, "the server has ended"
        assert not faults(server.log), f"{faults(server.log)}, seed {seed}"
        wait_until(lambda: len(server.status_now()["sessions"]) == 1, "the guests to be gone")
        # The other network may have got a new worker meanwhile, which has a descriptor for its slot.
        wait_until(lambda: daemon.num_fds() <= descriptors + 2, "the descriptors to be closed")
        wait_until(lambda: len(daemon.children(recursive=True)) <= processes + 1, "the spawners to be gone")
        grown = daemon.memory_info().rss - memory
        assert grown < _MAX_GROWTH, f"the server grew by {grown} bytes, seed {seed}"
    return count
