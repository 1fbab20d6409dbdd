"""An account's commands find and stop its server, whatever the environment of either (fault U2)."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.places import OPTIONS
from tests.support.servers import make_users
from tests.support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.slow
Run = subprocess.CompletedProcess[str]


def pserver(variables: dict[str, str], *arguments: str, before: tuple[str, ...] = ()) -> Run:
    """Run the command with only these variables and PATH."""
    return subprocess.run(
        [*before, sys.executable, "-m", "pserver", *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


class Started:
    """A server in the background, with its own run-time folder."""

    def __init__(self, folder: Path, before: tuple[str, ...] = ()) -> None:
        self.run, self.home = folder / "run", folder / "home"
        for place in (self.run, self.home):
            place.mkdir(mode=0o700)
        self.name = f"found-{secrets.token_hex(4)}"
        self.auth_file = make_users(folder / "users")[1]
        self.variables = {"XDG_RUNTIME_DIR": str(self.run), "HOME": str(self.home)}
        done = self.start(self.variables, before=before)
        assert done.returncode == 0, done.stderr

    def start(self, variables: dict[str, str], *options: str, before: tuple[str, ...] = ()) -> Run:
        more = (f"--auth-file={self.auth_file}", f"--name={self.name}", *options)
        return pserver(variables, "start", *OPTIONS, *more, before=before)

    def do(self, word: str, variables: dict[str, str]) -> Run:
        return pserver(variables, word, f"--name={self.name}")

    def status(self) -> dict[str, object]:
        (found,) = json.loads(pserver(self.variables, "status", f"--name={self.name}", "--json").stdout)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    made: list[Started] = []

    def start(*before: str) -> Started:
        made.append(Started(tmp_path, before))
        return made[-1]

    yield start
    for server in made:
        server.do("stop", server.variables)


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": "/"},  # cron, or a service
        {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
        {"XDG_RUNTIME_DIR": "/run/user/12345", "HOME": "/root"},  # a login
        {"XDG_RUNTIME_DIR": "ELSEWHERE", "HOME": "ELSEWHERE", "TMPDIR": "ELSEWHERE"},
    ],
)
def test_a_server_is_found_and_stopped_from_everywhere(
    make: Callable[..., Started], variables: dict[str, str], tmp_path: Path
) -> None:
    server = make()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    variables = {name: str(elsewhere) if text == "ELSEWHERE" else text for name, text in variables.items()}
    told = server.do("status", variables)
    pid = server.status()["pid"]
    assert f"{server.name}  {pid}" in told.stdout, told
    assert f"(pid {pid}): {server.run}/pserver\n" in told.stdout
    again = server.start(variables)
    assert again.returncode == 1
    assert f"a server named '{server.name}' is already running (pid {pid})" in again.stderr
    assert server.do("stop", variables).stdout == f"Stopped {server.name} (pid {pid}).\n"
    assert server.do("status", server.variables).returncode == 3


def test_a_port_in_use_names_a_server_that_is_found_elsewhere(
    make: Callable[..., Started], tmp_path: Path
) -> None:
    server = make()
    found = server.status()
    other = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    taken = server.start(other, "--name=other", f"--cmd-port={found['cmd_port']}")
    assert f"the server '{server.name}' (pid {found['pid']}) listens there" in taken.stderr
    assert f"pserver stop --name {server.name}, or give this server another --name" in taken.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_server_with_folders_of_its_own_is_found(make: Callable[..., Started]) -> None:
    """Services with PrivateTmp=yes have such mounts, for example."""
    mount = 'mount -t tmpfs none "$XDG_RUNTIME_DIR"; exec "$@"'
    server = make("unshare", "--mount", "sh", "-c", mount, "sh")
    assert not list(server.run.iterdir())
    assert server.do("status", server.variables).returncode == 0
    pid = server.status()["pid"]
    assert server.do("stop", {"HOME": "/"}).stdout == f"Stopped {server.name} (pid {pid}).\n"


def test_a_removed_folder_is_made_again_and_the_server_is_found(make: Callable[..., Started]) -> None:
    server = make()
    pid = server.status()["pid"]
    shutil.rmtree(server.run)
    server.run.mkdir(mode=0o700)
    wait_until((server.run / "pserver" / f"{server.name}.json").exists, "the files")
    for variables in (server.variables, {"HOME": "/"}):
        assert f"{server.name}  {pid}" in server.do("status", variables).stdout


def test_servers_that_are_apart_are_not_found(make: Callable[..., Started], tmp_path: Path) -> None:
    server = make()
    apart = {"PSERVER_RUNTIME_DIR": str(tmp_path / "apart"), "HOME": "/"}
    (tmp_path / "apart").mkdir(mode=0o700)
    assert server.do("status", apart).returncode == 3
    assert server.do("stop", apart).returncode == 3
    other = Started.__new__(Started)
    other.name, other.auth_file = f"{server.name}-apart", server.auth_file
    assert other.start(apart).returncode == 0
    try:
        assert other.do("status", server.variables).returncode == 3
        assert other.do("stop", {"HOME": "/"}).returncode == 3
    finally:
        assert other.do("stop", apart).returncode == 0
