"""The recipe for a container: its steps, and what it runs, in a copy of this machine's files."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import pconnect, precv, reval
from pserver.deploy.wheel import make_wheel
from tests.support.accounts import needs_root
from tests.support.containers import Image, in_container
from tests.support.own_accounts import make_users, passable_folder, password_of
from tests.support.waiting import DEADLINE
from tests.support.wheels import make_wheels

pytestmark = [needs_root, pytest.mark.slow]

FILE = Path(__file__).parents[2] / "doc" / "container" / "Containerfile"
NUMBER = 30100  # which nobody has here
OPTIONS = ("--bind=127.0.0.1", "--cmd-port=0", "--data-port=0")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with passable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def container(place: Path) -> list[str]:
    """Return the command that builds the image and runs a container."""
    context = place / "context"
    context.mkdir()
    wheel = make_wheel()
    (context / wheel.name).write_bytes(wheel.data)
    make_users(place, ["alice"])
    users = place / "server"
    for path in [users, *users.iterdir()]:
        os.chown(path, NUMBER, NUMBER)
    make_wheels(place / "wheels")
    target = "/home/pserver/.config/pserver/server"
    return in_container(Image.read(FILE), place, [(users, target)], {"UID": str(NUMBER)})


def test_a_container_serves_without_root(place: Path, container: list[str]) -> None:
    errors = place / "errors"
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [*container, *OPTIONS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream, text=True
        )
    try:
        assert process.stdout is not None
        found = re.search(r"command port ([0-9]+)", process.stdout.readline())
        assert found, errors.read_text()
        hosts = [f"127.0.0.1:{found[1]}"]
        with pconnect(
            hosts,
            user="alice",
            password=password_of("alice"),
            profile="",
            local_links=False,
            timeout=DEADLINE,
        ) as net:
            reval("import os, pwd, pserver, numpy as np", net[1])
            reval(
                "psend([os.getuid(), os.environ['HOME'], pserver.__file__, float(np.ones(3).sum())], sockets[0])",
                net[1],
            )
            number, folder, module, total = precv(net[1], timeout=DEADLINE)
            assert (number, folder, total) == (NUMBER, "/home/pserver", 3.0)
            # It is the package of the image, and not that of this machine.
            assert str(place / "base") in module
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)
    assert "audit session-end" in errors.read_text()
    assert not (place / "base" / "bin" / "pserver").exists()  # nothing of it stays here
