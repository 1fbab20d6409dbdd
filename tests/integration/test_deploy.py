"""`pserver deploy` over the system's ssh to real ssh servers, with common login shells."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines import Machine
from tests.support.ssh_machines import Account, run_ssh_machines
from tests.support.wheels import make_wheels

# The `pserver` command of the tests, as the client's environment has it.
PSERVER = f"{shlex.quote(sys.executable)} -P -m pserver"
PYTHON = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'
MODULE = """echo Hello
module() { cd ~/modules/$2 && PATH=$PWD:$PATH && cd; }
"""
ACCOUNTS = {
    "laptop": Account(),
    "alpha": Account(files={".bashrc": "echo Welcome to alpha\necho careful >&2\nalias head=true\n"}),
    "beta": Account(
        "/usr/bin/tcsh",
        {".cshrc": "echo Welcome to beta\nset noclobber\n", "my pythons/py": PYTHON},
    ),
    "gamma": Account(
        "/usr/bin/fish",
        {
            ".config/fish/config.fish": "echo Welcome to gamma\n",
            ".bash_profile": MODULE,
            "modules/py/python-of-the-module": PYTHON,
        },
    ),
}
# How to find Python where it is not on the PATH.
PYTHONS = (
    "--python 'beta=~/my pythons/py' --python gamma=python-of-the-module"
    " --setup 'gamma=module load py; export LOADED=yes'"
)
CONNECT = """
from pconnect import pconnect
with pconnect() as net:
    print(net.eval("__import__('platform').node()").result())
    print(net.eval("__import__('os').environ.get('LOADED')").result())
"""
HOLD = """
import time
from pconnect import pconnect
net = pconnect("alpha")
open("held", "w").close()
time.sleep(60)
"""

Machines = dict[str, Machine]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wheels(tmp_path_factory.mktemp("packages") / "wheels")


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with run_ssh_machines(tmp_path, ACCOUNTS) as machines:
        machines["laptop"].run(f"{sys.executable} -m srp_tools.cli --random --bits 2048")
        yield machines


def below(machine: Machine) -> list[str]:
    """Return the files of a home that are not the test's own."""
    own = {".ssh", "run", "passwd", *(Path(name).parts[0] for name in ACCOUNTS[machine.name].files)}
    files = (path.relative_to(machine.home) for path in machine.home.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in files if path.parts[0] not in own)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_nothing_to_a_network_and_back(machines: Machines, wheels: Path) -> None:
    laptop = machines["laptop"]
    machines["beta"].run("chmod +x 'my pythons/py'")
    machines["gamma"].run("chmod +x modules/py/*")
    deploy = f"{PSERVER} deploy alpha beta gamma --wheels {wheels} {PYTHONS}"
    shown = laptop.run(deploy)
    for host in ("alpha", "beta", "gamma"):
        assert f"{host}: ready, command port 12502, data port 12501" in shown
        assert (machines[host].home / f".local/share/pserver/deploy/{host}/default/server/tpasswd").exists()
        assert not (machines[host].home / ".config/pserver").exists()
    assert "All of them can be reached, from here and from each other." in shown
    assert 'or pconnect(["alpha", "beta", "gamma"])' in shown
    (laptop.home / "connect.py").write_text(CONNECT)
    shown = laptop.run(f"{sys.executable} connect.py")
    assert "['alpha', 'beta', 'gamma']" in shown
    assert "[None, None, 'yes']" in shown  # the server has the variables of the setup command

    # The password does not leave this machine.
    password = (laptop.home / ".config/pserver/client/credentials").read_text().partition(":")[2].strip()
    assert laptop.run(f"grep -rF -e {password} ../alpha ../beta ../gamma || true") == ""

    assert laptop.run(deploy).count("up to date") == 3

    # A network uses the first host, so only the others are updated.
    (laptop.home / "hold.py").write_text(HOLD)
    laptop.run(f"{sys.executable} hold.py &")
    laptop.run("until [ -e held ]; do sleep 0.05; done")
    status, shown = laptop.attempt(f"{deploy} --slots 2")
    assert status == 1
    assert "pserver: alpha: a network uses the server (users: alice)" in shown
    assert "beta: ready" in shown
    assert "gamma: ready" in shown
    assert "alpha: ready" in laptop.run(f"{deploy} --slots 2 --force")

    shown = laptop.run(f"{PSERVER} deploy --remove alpha beta gamma {PYTHONS}")
    assert shown.count("stopped, and removed") == 3
    assert not (laptop.home / ".config/pserver/client/pconnect.toml").exists()
    assert [below(machines[host]) for host in ("alpha", "beta", "gamma")] == [[], [], []]


@pytest.mark.slow
def test_mistakes_come_with_what_to_do(machines: Machines, tmp_path: Path) -> None:
    """Each host has its own fault; on the last one, Python is too old."""
    laptop = machines["laptop"]
    (laptop.home / "config").write_text(
        "Host alpha\n  StrictHostKeyChecking yes\n  UserKnownHostsFile /dev/null\n"
        "Host beta\n  IdentityFile /dev/null\n  IdentitiesOnly yes\n  StrictHostKeyChecking accept-new\n"
        "Host gamma g\n  HostName gamma\n  StrictHostKeyChecking accept-new\n"
    )
    old = tmp_path / "bin/old"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    status, shown = laptop.attempt(
        f"{PSERVER} deploy alpha beta gamma g nosuch --ssh 'ssh -F config'"
        " --python gamma=old --setup 'g=module load nothing'"
    )
    assert status == 1
    errors = [line for line in shown.splitlines() if line.startswith("pserver: ")]
    for error, parts in zip(
        errors,
        [
            ("alpha: ", "Host key verification failed", "run ssh alpha once"),
            ("beta: ", "Permission denied (publickey", "ssh-copy-id beta"),
            ("gamma: ", "old is ", "old (3.9)", "--python gamma=PATH"),
            ("g: ", "--setup failed with status 1", "modules/nothing"),
            ("nosuch: ", "Could not resolve hostname nosuch", "correct the name"),
        ],
        strict=True,
    ):
        assert [part for part in parts if part not in error] == []
    assert [below(machines[host]) for host in ("alpha", "beta", "gamma")] == [[], [], []]
