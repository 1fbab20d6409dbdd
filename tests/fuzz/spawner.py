"""Messages to a real spawner that sessions and supervisors never send, with descriptors of all kinds.

A spawner kills adopted processes and all processes with a node's mark. So messages here name only one process of our
own, which must survive, and are never changed byte by byte, because the result might name any process. They name no
folders.
"""

import contextlib
import os
import random
import socket
import subprocess
import time

import psutil

from pserver.config.limit_options import SessionLimits
from pserver.engine.command_page import make_memory
from pserver.spawner.spawner import SpawnerProcess
from pserver.spawner.spawner_words import ADOPT, END, NODE, START, node_request
from pserver.system.process_marks import make_mark
from tests.fuzz.odd_descriptors import OddDescriptors
from tests.fuzz.quiet import quiet_children
from tests.fuzz.session_words import count_of
from tests.support.servers import Server, open_files
from tests.support.waiting import wait_until

_WORDS_OF_A_NODE = 30
_HONEST_EVERY = 10  # nodes
_ENDS_OF_AN_ENGINE = 6
_MAX_GROWTH = 2**24
_NO_NUMBERS = [b"", b"x", b" ", b"1e3", b"0x10", b"1.5", b"\xff", b"\0", b"1 2", b"9" * 30, b"9" * 4000]


def _word(chance: random.Random, strangers: list[int]) -> tuple[bytes, int]:
    """Return a supervisor's request, and the right number of descriptors for it."""
    word, right = chance.choice(
        [(START, _ENDS_OF_AN_ENGINE), (END, 0), (ADOPT, 0), (b"what ", 0), (b"star", 6)]
    )
    if chance.random() < 0.4:
        return word + chance.choice(_NO_NUMBERS), right
    number = chance.choice(strangers) if word == ADOPT else chance.randrange(10**6)
    return word + str(number).encode(), right


def _say(sock: socket.socket, data: bytes, ends: list[int]) -> bool:
    """Send a message; return whether the other end still reads."""
    try:
        socket.send_fds(sock, [data], ends)
    except (ConnectionError, TimeoutError):
        return False
    return True


def _be_node(root: socket.socket, chance: random.Random, strangers: list[int]) -> int:
    """Let a spawner serve a node, and talk to it as its supervisor; return the number of messages."""
    count = 0
    with contextlib.ExitStack() as stack:
        odd = OddDescriptors(stack)
        for _ in range(3):
            data = chance.choice([NODE + chance.choice(_NO_NUMBERS), b"nod", chance.randbytes(9)])
            assert _say(root, data, odd.some(chance, count_of(chance, 2))), "the spawner is gone"
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        for end in (end for pair in pairs for end in pair):
            stack.enter_context(end)
            end.settimeout(5.0)
        (sock, its_sock), (_, its_deaths) = pairs
        assert _say(
            root, node_request(make_mark(), SessionLimits()), [its_sock.fileno(), its_deaths.fileno()]
        )
        its_sock.close()
        its_deaths.close()
        for _ in range(chance.randrange(_WORDS_OF_A_NODE)):
            word, right = _word(chance, strangers)
            if not _say(sock, word, odd.some(chance, count_of(chance, right))):
                break
            count += 1
    return count


def _is_unharmed(process: SpawnerProcess) -> None:
    """Check that a node gets an engine and the report of its end."""
    node = process.for_node()
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(end).fileno() for _ in range(5) for end in socket.socketpair()]
        memory = make_memory()
        stack.callback(os.close, memory)
        node.request_engine([*ends[::2], memory])
        assert node.engine_pid() > 0
        assert node.end_engine() is not None
        node.close()


def run(_: Server, seconds: float, seed: int) -> int:
    """Send messages for some seconds; return their number. Raise `AssertionError` after any harm."""
    chance = random.Random(seed)
    count = nodes = 0
    end = time.monotonic() + seconds
    with quiet_children():
        process = SpawnerProcess([])
    root = process._root
    with contextlib.ExitStack() as stack:
        stack.callback(process.close)
        strangers = [stack.enter_context(subprocess.Popen(["/bin/sleep", "100000"])) for _ in range(3)]
        for stranger in strangers:
            stack.callback(stranger.kill)
        _is_unharmed(process)
        spawner = psutil.Process(process.pid)
        wait_until(lambda: not spawner.children(recursive=True), "the engine to be gone")
        before, memory, ours = spawner.num_fds(), spawner.memory_info().rss, open_files()
        while time.monotonic() < end:
            count += _be_node(root, chance, [stranger.pid for stranger in strangers])
            nodes += 1
            if nodes % _HONEST_EVERY == 0:
                _is_unharmed(process)
            assert all(stranger.poll() is None for stranger in strangers), f"a stranger died, seed {seed}"
        _is_unharmed(process)
        wait_until(lambda: not spawner.children(recursive=True), "the engines to be gone")
        wait_until(lambda: spawner.num_fds() <= before, "the descriptors to be closed")
        grown = spawner.memory_info().rss - memory
        assert grown < _MAX_GROWTH, f"the spawner grew by {grown} bytes, seed {seed}"
        assert open_files() <= ours, f"descriptors stay open here, seed {seed}"
    return count
