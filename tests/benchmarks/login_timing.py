"""Measure whether the server's time reveals unknown users: ``python -m tests.benchmarks.login_timing``.

A client with a wrong password and one with an unknown name log in alternately. The benchmark measures the processor
time of the server's side, with the file read afresh: from the ClientHello to the ServerKeyExchange, and from the
ClientKeyExchange to the alert. An attacker sees the same times with the noise of a network. The verdict is Welch's
test: with two equal distributions, |t| is below 3 in 997 of 1000 cases.
"""

import gc
import math
import random
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, variance
from typing import Any, NamedTuple

from srp_tools.credentials import Credentials
from srp_tools.errors import AuthenticationError
from srp_tools.login import accept_login, log_in
from srp_tools.steps import Steps
from srp_tools.verifier import Verifier, make_verifier
from srp_tools.verifier_file import VerifierFile

Lookup = Callable[[str], Verifier]
LIMIT = 3.0  # limit of |t|
_PHASES = ("ClientHello to ServerKeyExchange", "ClientKeyExchange to alert")


class Comparison(NamedTuple):
    """The statistics of one phase's times."""

    phase: str
    unknown: float  #: mean seconds for an unknown user
    wrong: float  #: mean seconds for a wrong password
    t: float  #: Welch's t


def welch(first: list[float], second: list[float]) -> float:
    """Return Welch's t for the means of two samples."""
    spread = math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    return (fmean(first) - fmean(second)) / spread


def lookup_in(path: Path) -> Lookup:
    """Return a session's look-up of users."""
    return VerifierFile(path).lookup


def compare(path: Path, count: int, lookup: Callable[[Path], Lookup] = lookup_in) -> list[Comparison]:
    """Log in alternately with an unknown name and with a known user's wrong password, `count` times each."""
    users = VerifierFile(path).users()
    times: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    with _quiet():
        for number in range(count + 5):
            for is_known in random.sample([True, False], 2):
                # Names of one length; each unknown name is new, as for an attacker who looks for users.
                name = users[number % len(users)] if is_known else f"user{number + 100}"
                spent = _time_login(lookup(path), name)
                if number >= 5:  # the first ones load modules
                    times[is_known].append(spent)
    samples = [([t[phase] for t in times[False]], [t[phase] for t in times[True]]) for phase in (0, 1)]
    return [
        Comparison(phase, fmean(unknown), fmean(wrong), welch(unknown, wrong))
        for phase, (unknown, wrong) in zip(_PHASES, samples, strict=True)
    ]


def make_users(folder: Path, groups: Sequence[int]) -> Path:
    """Make a file of users with the given group sizes in bits."""
    path = folder / "server" / "tpasswd"
    for number, bits in enumerate(groups):
        VerifierFile(path).add(make_verifier(Credentials(f"user{number + 900}", "right"), bits))
    return path


def _time_login(lookup: Lookup, user: str) -> tuple[float, float]:
    """Let a client try a wrong password; return the seconds that the server took for each of its two answers."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        client = log_in(near, Credentials(user, "wrong"), lambda _: b"")
        server = accept_login(far, lookup, b"offer")
        spent = []
        _advance(server, far)  # it waits for the ClientHello
        for _ in _PHASES:
            _advance(client, near)
            begin = time.thread_time()
            is_refused = _advance(server, far)
            spent.append(time.thread_time() - begin)
        assert is_refused, "the wrong password was not refused"
        return spent[0], spent[1]


def _advance(steps: Steps[Any], sock: socket.socket) -> bool:
    """Continue until there is nothing more to read; return whether the login was refused."""
    try:
        while True:
            next(steps)
            if not select.select([sock], [], [], 0)[0]:
                return False
    except AuthenticationError:
        return True


@contextmanager
def _quiet() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _users_of_one_group(folder: Path) -> Path:
    return make_users(folder, (2048, 2048, 2048))


def _users_without_seed(folder: Path) -> Path:
    path = _users_of_one_group(folder)
    path.with_name("tpasswd.seed").unlink()
    return path


def _users_of_several_groups(folder: Path) -> Path:
    return make_users(folder, (2048, 3072, 2048, 2048))


CASES: dict[str, Callable[[Path], Path]] = {
    "with the seed file": _users_of_one_group,
    "seed file missing before": _users_without_seed,
    "groups of 2048 and 3072 bits": _users_of_several_groups,
}


def main(count: int = 200) -> int:
    """Print the figures and the verdict; return 1 if the timing reveals unknown users."""
    is_told = False
    for case, make in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = make(Path(folder))
            print(f"{case}, n = {count} each:")
            for phase, unknown, wrong, t in compare(path, count):
                is_told |= abs(t) >= LIMIT
                print(
                    f"  {phase:32}  unknown {unknown * 1e3:.4f} ms  wrong {wrong * 1e3:.4f} ms  t = {t:+.2f}"
                )
    print("The timing DOES reveal unknown users." if is_told else "The timing does not reveal unknown users.")
    return int(is_told)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
