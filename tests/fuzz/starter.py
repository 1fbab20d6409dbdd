"""Messages to a real starter that daemons never send, and to the daemon's side that starters never send.

A starter removes the folders that it is asked to remove. So these entries name nothing that exists, keep their values,
and are never changed byte by byte; and the starter works in a private folder.
"""

import contextlib
import copy
import json
import random
import selectors
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from pserver.config.session_settings import SessionSettings
from pserver.starter.session_starts import SessionStarts
from pserver.starter.starter import StarterProcess
from tests.fuzz.odd_descriptors import OddDescriptors
from tests.fuzz.quiet import quiet_children
from tests.fuzz.session_words import ODD, count_of
from tests.fuzz.strangers import mutated
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until

_HONEST_EVERY = 50  # words
_MAX_GROWTH = 2**24
_KEPT = {"remove", "sweep", "log", "settings"}  # entries that keep their values, because they have paths
_DESCRIPTORS = 256


def _settings(folder: Path) -> dict[str, Any]:
    return {
        "auth_file": str(folder / "none" / "tpasswd"), "data_port": 1, "bind": [], "login_timeout": 1.0,
        "log_file": str(folder / "log"), "proof_timeout": 1.0, "peer": "nowhere", "user": "alice",
        "kept": str(folder / "none"), "sessions_path": str(folder / "sessions"), "limits": {},
    }  # fmt: skip


def _requests(folder: Path) -> list[tuple[dict[str, Any], int]]:
    """Return the messages of a daemon, each with its number of descriptors."""
    return [
        (
            {
                "session": 7,
                "settings": SessionSettings.from_json(_settings(folder)).as_json(),
                "received": "",
            },
            2,
        ),
        ({"session": 7, "settings": {}, "received": "00"}, 2),
        ({"spawner": 1, "uid": None}, 1),
        ({"remove": str(folder / "none"), "mark": 0, "uid": None}, 0),
        ({"sweep": str(folder / "none"), "days": 7.0, "log": str(folder / "log")}, 0),
    ]


def _changed(chance: random.Random, words: dict[str, Any]) -> bytes:
    """Return a message in which some entries are changed, missing or added."""
    words = copy.deepcopy(words)
    for _ in range(chance.randrange(3)):
        key = chance.choice([*words.keys() - _KEPT, "session", "spawner", "mark"])
        if chance.random() < 0.2:
            words.pop(key, None)
        else:
            words[key] = chance.choice(ODD)
    data = json.dumps(words).encode()
    if not words.keys() & _KEPT and chance.random() < 0.3:
        data = mutated(chance, data)
    return data or b"{"  # an empty message would mean the end


def _starts_sessions(starter: StarterProcess, folder: Path) -> bool:
    """Return whether an honest request starts a session; drop the starter's earlier answers."""
    client, sock = socket.socketpair()
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with client, control:
        control.settimeout(DEADLINE)
        words = {"session": 10**6, "settings": _settings(folder), "received": ""}
        with sock, theirs:
            _say(starter.sock, json.dumps(words).encode(), [sock.fileno(), theirs.fileno()])
        return b"here" in control.recv(4096)


def _say(sock: socket.socket, data: bytes, ends: list[int]) -> None:
    """Send a message, and drop the answers of the other end."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            while True:
                assert sock.recv(2**14), "the starter has died"
        try:
            socket.send_fds(sock, [data], ends)
        except BlockingIOError:
            time.sleep(0.002)
        else:
            return
    raise AssertionError("the starter does not listen")


def _speak_to_starter(folder: Path, seconds: float, seed: int) -> int:
    chance = random.Random(seed)
    count, end = 0, time.monotonic() + seconds
    requests = _requests(folder)
    with contextlib.ExitStack() as stack:
        with contextlib.chdir(folder), quiet_children():
            starter = StarterProcess(_DESCRIPTORS)
        stack.callback(starter.close)
        assert _starts_sessions(starter, folder)
        process = psutil.Process(starter.pid)
        wait_until(lambda: not process.children(), "the session to be gone")
        descriptors, memory = process.num_fds(), process.memory_info().rss
        while time.monotonic() < end:
            with contextlib.ExitStack() as descriptors_end:
                odd = OddDescriptors(descriptors_end)
                for _ in range(_HONEST_EVERY):
                    words, right = chance.choice(requests)
                    _say(starter.sock, _changed(chance, words), odd.some(chance, count_of(chance, right)))
                    count += 1
                assert _starts_sessions(starter, folder), f"no session is started, seed {seed}"
            wait_until(lambda: not process.children(), "sessions and spawners to be gone")
        wait_until(lambda: process.num_fds() <= descriptors, "the descriptors to be closed")
        grown = process.memory_info().rss - memory
        assert grown < _MAX_GROWTH, f"the starter grew by {grown} bytes, seed {seed}"
    return count


def _speak_to_daemon(seconds: float, seed: int) -> int:
    """Answer the daemon's side of session starts as no real starter does."""
    chance = random.Random(seed)
    answers: list[dict[str, Any]] = [{"failed": 1, "why": "no room"}, {"ended": 1, "code": 0}, {"here": 1}]
    count, end = 0, time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        starts = SessionStarts(selector)
        stack.callback(starts.close)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(ours)
        theirs.setblocking(False)

        class Talkative(StarterProcess):
            def __init__(self) -> None:
                super().__init__(_DESCRIPTORS)
                self.sock.close()
                self.sock = theirs

        starts.starter.begin(_DESCRIPTORS, Talkative())
        while time.monotonic() < end:
            ours.send(_changed(chance, chance.choice(answers)))
            count += 1
            for key, _ in selector.select(0.0):
                key.data()
            assert starts.starter.pid, f"the starter is taken for dead, seed {seed}"
            assert not len(starts)
    return count


def run(_: Server, seconds: float, seed: int) -> int:
    """Send messages for some seconds; return their number. Raise `AssertionError` after any harm."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        count = _speak_to_starter(Path(name), seconds * 0.8, seed)
    return count + _speak_to_daemon(seconds * 0.2, seed)
