"""One client of the soak: it does random work and checks the results, until it is killed or has done enough.

``python -m tests.hostile.soak_client SEED STEPS HOST…``. It prints a line for each correct step. Anything else ends it
with a traceback and status 1. User and password come from the environment.
"""

import hashlib
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pconnect import EngineDiedError, pconnect, precv, psend, reval
from pconnect.views.network_views import ClientNetwork

TIMEOUT = 60.0
#: The processes that user code leaves behind sleep this long; nothing else on a machine does.
LEFT_BEHIND = "86399"


def square(number: int) -> int:
    """Run as a job."""
    return number * number


def echo(net: ClientNetwork, chance: random.Random) -> None:
    """Send an array to a node and get it back."""
    node = chance.randrange(1, len(net))
    array = np.random.default_rng(chance.randrange(2**32)).random(chance.choice([0, 1, 1000, 300_000]))
    command = reval("psend(2 * precv(sockets[0]), sockets[0])", net[node])
    psend(array, net[node], timeout=TIMEOUT)
    got = precv(net[node], timeout=TIMEOUT)
    command.result(TIMEOUT)
    if not np.array_equal(got, 2 * array):
        raise AssertionError(f"an array of {array.size} came back wrong")


def ring(net: ClientNetwork, chance: random.Random) -> None:
    """Send an array through all nodes."""
    size = chance.choice([1, 100_000])
    commands = net[1:].eval(
        "value = precv(sockets[sockets.node - 1]) + 1\npsend(value, sockets[(sockets.node + 1) % len(sockets)])"
    )
    psend(np.zeros(size), net[1], timeout=TIMEOUT)
    got = precv(net[len(net) - 1], timeout=TIMEOUT)
    commands.result(TIMEOUT)
    if not np.array_equal(got, np.full(size, float(len(net) - 1))):
        raise AssertionError("the ring returned something wrong")


def jobs(net: ClientNetwork, chance: random.Random) -> None:
    """Run jobs."""
    count = chance.randrange(1, 50)
    got = list(net.map(square, range(count), retries=3))
    if got != [k * k for k in range(count)]:
        raise AssertionError(f"{count} jobs returned {got}")


def collective(net: ClientNetwork, _: random.Random) -> None:
    """Add up over all engines."""
    net[1:].eval("total = allreduce(sockets.node, sockets[1:])").result(TIMEOUT)
    expected = sum(range(1, len(net)))
    got = net[1:].pull("total", timeout=TIMEOUT)
    if got != [expected] * (len(net) - 1):
        raise AssertionError(f"the sum is {got}")


def files(net: ClientNetwork, chance: random.Random) -> None:
    """Send a file and get it back."""
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder, "there"), Path(folder, "back")
        there.write_bytes(chance.randbytes(chance.choice([0, 10, 500_000])))
        node = net[chance.randrange(1, len(net))]
        node.put(there, "kept.bin", timeout=TIMEOUT)
        node.get("kept.bin", back, timeout=TIMEOUT)
        digests = [hashlib.sha256(path.read_bytes()).digest() for path in (there, back)]
    if digests[0] != digests[1]:
        raise AssertionError("a file came back changed")


def printing(net: ClientNetwork, chance: random.Random) -> None:
    """Make engines print."""
    net[1:].eval(f"print('x' * {chance.choice([1, 10_000])})").result(TIMEOUT)


def leave_process(net: ClientNetwork, _: random.Random) -> None:
    """Leave a process behind that leads its own session."""
    line = f"setsid sleep {LEFT_BEHIND} </dev/null >/dev/null 2>&1 &"
    source = f"import subprocess\ndone = subprocess.run({line!r}, shell=True)"
    net[1:].eval(source).result(TIMEOUT)


def crash(net: ClientNetwork, chance: random.Random) -> None:
    """Kill an engine and restart it."""
    node = net[chance.randrange(1, len(net))]
    try:
        node.eval("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)").result(TIMEOUT)
    except EngineDiedError:
        pass
    else:
        raise AssertionError("an engine survived SIGKILL")
    node.restart(timeout=TIMEOUT)


STEPS: list[tuple[int, Callable[[ClientNetwork, random.Random], None]]] = [
    (6, echo),
    (3, ring),
    (4, jobs),
    (3, collective),
    (3, files),
    (3, printing),
    (1, leave_process),
    (1, crash),
]


def main(seed: int, steps: int, hosts: list[str]) -> None:
    """Run as a client."""
    chance = random.Random(seed)
    weights, functions = zip(*STEPS, strict=True)
    with pconnect(hosts, timeout=TIMEOUT) as net:
        for step in chance.choices(functions, weights, k=steps):
            step(net, chance)
            print(step.__name__, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
