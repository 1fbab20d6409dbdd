"""Misbehaving members of a network: a client towards its session, and an engine or a worker towards the client.

A client that has logged in sends changed messages on its connections, and user code does so on an engine's connections.
Only this network may fail, with one of our own errors and within a time limit. Other clients of the server notice
nothing, and nothing is left of the failed network.
"""

import contextlib
import random
import socket
import time
import warnings
from typing import Any

import psutil

from pconnect import ParallelError, precv
from pconnect.protocol.frames import JOB_CHANNEL
from pconnect.protocol.kinds import Role
from pconnect.views.network_views import ClientNetwork
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after
from srp_tools.steps import run as run_steps
from tests.fuzz.messages import message
from tests.fuzz.strangers import faults
from tests.support.servers import Server, open_files
from tests.support.waiting import DEADLINE, wait_until

_MOST = 8  # messages in a row
_PATIENCE = 1.0  # seconds for messages that may never arrive
_LIMIT = 30.0  # seconds for one network, on a busy machine
_HONEST_EVERY = 5  # networks
_MAX_GROWTH = 2**26

# An attack by user code: it finds the connections of its process and uses them.
_SPEAK = """
import gc
from pconnect.link.connection import Connection
def speak(role, frames):
    for found in gc.get_objects():
        if type(found) is Connection and found._decoder.role.name == role:
            for frame in frames:
                found.post_encoded([frame])
            found.flush()
"""


def _as_client(net: Any, chance: random.Random) -> int:
    """Send messages that no real client sends on the command channel, the data connection or a job channel."""
    role = chance.choice([Role.SUPERVISOR, Role.ENGINE_DATA, Role.WORKERS])
    server = net.mesh.servers[1]
    frames = [message(chance, role) for _ in range(chance.randrange(1, _MOST))]
    if role is Role.WORKERS:
        channel = run_steps(net.mesh.mesh_setup.dial(server, JOB_CHANNEL), deadline_after(DEADLINE))
        with contextlib.suppress(ParallelError, TimeoutError):
            run_steps(channel.send_all(b"".join(frames)), deadline_after(_PATIENCE))
        channel.close()
        return len(frames)
    connection = server.command if role is Role.SUPERVISOR else server.data
    for frame in frames:
        connection.post_encoded([frame])
        connection.flush()
        if chance.random() < 0.2:
            net.eval("2").exception(0.05)
    return len(frames)


def _as_engine(net: ClientNetwork, chance: random.Random) -> int:
    """Make an engine or a worker send messages that no real one sends, to the client or to its supervisor."""
    theirs, ours = chance.choice(
        [("ENGINE_DATA", Role.CLIENT_DATA), ("ENGINE", Role.OVERSEER), ("WORKER", Role.EMPLOYER)]
    )
    frames = [message(chance, ours) for _ in range(chance.randrange(1, _MOST))]
    if theirs == "WORKER":
        names: dict[str, Any] = {}
        exec(_SPEAK, names)
        net.submit(names["speak"], theirs, frames).result(_PATIENCE)
    else:
        net.eval(f"{_SPEAK}\nspeak({theirs!r}, {frames!r})").result(_PATIENCE)
    return len(frames)


def _as_server(net: Any, chance: random.Random) -> int:
    """Act as the server of a node: the client receives its messages instead of the real server's."""
    server = net.mesh.servers[1]
    connection, role = chance.choice([(server.command, Role.CLIENT), (server.data, Role.CLIENT_DATA)])
    frames = [message(chance, role) for _ in range(chance.randrange(1, _MOST))]
    ours, theirs = socket.socketpair()
    real = connection._channel
    with ours, theirs:
        theirs.setblocking(False)
        connection._channel = Channel(theirs)
        try:
            for frame in frames:
                if connection.error is None:
                    ours.sendall(frame)
                    connection.fill()
        finally:
            connection._channel = real
            if connection.error is not None:
                real.close()
    return len(frames)


def _use(net: ClientNetwork, chance: random.Random) -> None:
    """Use a network as users do."""
    match chance.randrange(4):
        case 0:
            net.eval("1 + 1").result(_PATIENCE)
        case 1:
            precv(net[1], timeout=0.1)
        case 2:
            net.submit(abs, -3).result(_PATIENCE)
        case _:
            net[1].restart()


def _spoil_one(server: Server, chance: random.Random) -> int:
    """Connect and let one side send; return its number of messages. Raise errors that a client must not raise."""
    began = time.monotonic()
    count = 0
    net = server.connect(1, local_links=chance.random() < 0.5)
    try:
        speak = chance.choice([_as_client, _as_engine, _as_server])
        for _ in range(3):
            with contextlib.suppress(ParallelError, TimeoutError):
                count += speak(net, chance)
            with contextlib.suppress(ParallelError, TimeoutError):
                _use(net, chance)
    finally:
        with contextlib.suppress(ParallelError, TimeoutError):
            net.close()
    assert time.monotonic() - began < _LIMIT, f"it took {time.monotonic() - began:.0f} s"
    return count


def run(server: Server, seconds: float, seed: int) -> int:
    """Attack networks for some seconds; return the number of messages. Raise `AssertionError` after any harm."""
    daemon = psutil.Process(server.process.pid)
    count = networks = 0
    end = time.monotonic() + seconds
    with warnings.catch_warnings(), server.connect() as other:
        warnings.simplefilter("ignore")  # engines send strange warnings
        assert other.submit(abs, -3).result(DEADLINE) == 3
        before = daemon.num_fds(), daemon.memory_info().rss, open_files()
        # On a busy machine, the first network may end before any message was sent in it.
        while time.monotonic() < end or (not count and networks < 20):
            what = f"{seed}.{networks}"
            try:
                count += _spoil_one(server, random.Random(what))
            except BaseException as error:
                error.add_note(f"network {what}")
                raise
            networks += 1
            if networks % _HONEST_EVERY == 0:
                assert other.eval("1 + 1").result(DEADLINE) == [2]
                assert other.submit(abs, -3).result(DEADLINE) == 3
            assert not faults(server.log), f"{faults(server.log)}, network {what}"
        assert server.process.poll() is None, "the server has ended"
        wait_until(lambda: len(server.status_now()["sessions"]) == 1, "the sessions to be gone")
        # The other network may have got a new worker meanwhile, which has a descriptor for its slot.
        wait_until(lambda: daemon.num_fds() <= before[0] + 2, "the daemon's descriptors to be closed")
        grown = daemon.memory_info().rss - before[1]
        assert grown < _MAX_GROWTH, f"the server grew by {grown} bytes, seed {seed}"
        assert open_files() <= before[2] + 1, f"descriptors of the client stay open, seed {seed}"
    return count
