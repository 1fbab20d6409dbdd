"""The container recipe: its steps and its server, run in a copy of this machine's files."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import pconnect, precv, reval
from pserver.deploy.wheel import make_wheel
from tests.support.accounts import needs_root
from tests.support.containers import Image, in_container
from tests.support.own_accounts import make_users, passable_folder, password_of
from tests.support.servers import in_foreground
from tests.support.waiting import DEADLINE
from tests.support.wheels import make_wheels

pytestmark = [needs_root, pytest.mark.slow]

FILE = Path(__file__).parents[2] / "doc" / "container" / "Containerfile"
NUMBER = 30100  # which no account has here
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
    return in_container(Image.read(FILE), place, [(users, "/users")], {"UID": str(NUMBER)})


@pytest.mark.timeout(300)  # it installs a package twice
def test_a_container_serves_one_session_without_root_and_the_next_is_fresh(
    place: Path, container: list[str]
) -> None:
    for _ in range(2):
        errors = place / "errors"
        errors.unlink(missing_ok=True)
        with in_foreground([*container, *OPTIONS, "--serve", "1"], errors) as (process, port):
            use(port, place)
            assert process.wait(DEADLINE) == 0  # so the loop continues
        assert "audit session-end" in errors.read_text()
    assert not (place / "base" / "bin" / "pserver").exists()  # it leaves nothing behind here


def use(port: int, place: Path) -> None:
    """Act as the client of a container."""
    with pconnect(
        [f"127.0.0.1:{port}"],
        user="alice",
        password=password_of("alice"),
        profile="",
        local_links=False,
        timeout=DEADLINE,
    ) as net:
        reval("import os, pserver, numpy as np; left = os.path.expanduser('~/left')", net[1])
        facts = "[os.getuid(), os.path.exists(left), float(np.ones(3).sum()), pserver.__file__]"
        reval(f"psend({facts}, sockets[0]); open(left, 'w').close()", net[1])
        *found, module = precv(net[1], timeout=DEADLINE)
        assert found == [NUMBER, False, 3.0]
        # The package comes from the image, not from this machine.
        assert str(place / "base") in module
