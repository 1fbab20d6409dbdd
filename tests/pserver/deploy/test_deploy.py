"""Several hosts in parallel, with a program in place of ssh: one host is this machine, the others fail."""

import platform
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.config.server_config import ServerConfig
from pserver.deploy.agent import place_of
from pserver.deploy.deploy import Deployed, Deployment, Outcome, _reach_from_here, _seen_from, _with_remedy
from pserver.deploy.plan import Plan, make_plan
from pserver.deploy.ssh import Ssh, Target
from pserver.system.pidfile import find_server, list_servers, stop_server
from srp_tools import generate_srp_data
from tests.support.deploying import free_ports, lend_environment
from tests.support.places import use_private_places

# `alpha` and `alpha2` are this machine; `nobody` cannot be reached; any other host has a shell that ignores its input.
_SSH = """#!/bin/sh
[ "$1" = -G ] && {{ echo hostname 127.0.0.1; exit; }}
for line; do host=$before before=$line; done
case $host in
alpha*) PATH={path} exec /bin/sh -c "$line" ;;
nobody) echo "ssh: Could not resolve hostname nobody" >&2; exit 255 ;;
esac
echo Welcome
"""


class Hosts:
    """Deploys, and records the messages."""

    def __init__(self, folder: Path) -> None:
        self.users = generate_srp_data("alice", bits=2048, folder=folder / "srp").server
        self.ports = free_ports()
        self.said: list[tuple[str, str]] = []
        (folder / "bin").mkdir()
        python = folder / "bin/python3"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        self.ssh = folder / "ssh"
        self.ssh.write_text(_SSH.format(path=f"{folder}/bin:/usr/bin:/bin"))
        self.ssh.chmod(0o755)

    def plan(self, *, shared_account: bool = False) -> Plan:
        command, data = self.ports
        config = ServerConfig(
            cmd_port=command,
            data_port=data,
            bind="127.0.0.1",
            allow_root=True,
            auth_file=self.users,
            slots=1,
            shared_account=shared_account,
        )
        return make_plan(config, [], None, force=False)

    def deployment(self, *hosts: str) -> Deployment:
        targets = [Target(host, "python3") for host in hosts]
        return Deployment(Ssh([str(self.ssh)]), targets, lambda *said: self.said.append(said), 60)

    def deploy(self, *hosts: str, shared_account: bool = False) -> Outcome:
        self.said.clear()
        return self.deployment(*hosts).deploy(self.plan(shared_account=shared_account))


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    use_private_places(tmp_path, monkeypatch)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    found = Hosts(tmp_path)
    # The environment already exists, because creating one takes a minute.
    environment = found.plan().record(sys.executable, platform.python_version())["environment"]
    lend_environment(place_of("default"), environment)
    yield found
    for server in list_servers():
        stop_server(server.name)


@pytest.mark.slow
def test_a_host_gets_what_it_lacks_and_nothing_twice(hosts: Hosts) -> None:
    outcome = hosts.deploy("alpha")
    command, data = hosts.ports
    assert outcome.errors == {}
    assert [each.name for each in outcome.deployed] == [f"127.0.0.1:{command}"]
    ports = f"command port {command}, data port {data}"
    assert hosts.said == [("alpha", "starting the server"), ("alpha", f"ready, {ports}")]
    assert hosts.deploy("alpha").errors == {}
    assert hosts.said == [("alpha", f"up to date, {ports}")]
    assert hosts.deploy("alpha", shared_account=True).errors == {}
    assert hosts.said[0] == ("alpha", "starting the server")
    generate_srp_data("bob", bits=2048, folder=hosts.users.parent.parent)
    assert hosts.deploy("alpha", shared_account=True).errors == {}
    assert hosts.said == [("alpha", f"ready, {ports}")]
    assert (place_of("default") / "server/tpasswd").read_bytes() == hosts.users.read_bytes()


def test_hosts_that_fail_do_not_hold_up_others_and_are_reported_in_order(hosts: Hosts) -> None:
    outcome = hosts.deploy("strange", "alpha", "nobody")
    assert [each.target.host for each in outcome.deployed] == ["alpha"]
    assert list(outcome.errors) == ["strange", "nobody"]
    assert "it printed: Welcome" in outcome.errors["strange"][0]
    assert "correct the name" in outcome.errors["nobody"][0]
    assert {("strange", "failed"), ("nobody", "failed")} <= {*hosts.said}


def test_remove(hosts: Hosts) -> None:
    hosts.deploy("alpha")
    place = place_of("default")
    outcome = hosts.deployment("alpha", "nobody").remove("default", force=False)
    assert list(outcome.errors) == ["nobody"]
    assert outcome.removed == [f"127.0.0.1:{hosts.ports[0]}"]
    assert ("alpha", f"stopped, and removed {place}") in hosts.said
    assert not place.exists()
    assert find_server("default") is None
    assert hosts.deployment("alpha").remove("default", force=False).errors == {}
    assert hosts.said[-1] == ("alpha", "nothing was deployed there")


def test_ports_that_cannot_be_reached_are_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, (free, _) = listener.getsockname()[1], free_ports()
        found, failures = _reach_from_here(Deployed(Target("alpha"), "localhost", port, free, "alpha"))
    assert found == ["127.0.0.1"]
    [failure] = failures
    assert f"this machine cannot reach its data port: localhost port {free}: Connection refused" in failure
    assert "loginctl enable-linger" in failure


def test_hosts_that_do_not_reach_each_other_are_reported_at_the_one_that_is_not_reached(hosts: Hosts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, (free, _) = listener.getsockname()[1], free_ports()
        here = platform.node()
        alpha = Deployed(Target("alpha", "python3"), "127.0.0.1", port, port, here)
        alpha2 = Deployed(Target("alpha2", "python3"), "127.0.0.1", port, free, here)
        reasons = hosts.deployment("alpha", "alpha2").unreached([alpha, alpha2])
    assert list(reasons) == ["alpha2"]
    from_here, from_alpha = reasons["alpha2"]
    assert from_here.startswith(
        f"this machine cannot reach its data port: 127.0.0.1 port {free}: Connection refused"
    )
    assert from_alpha.startswith(
        f"alpha cannot reach its data port: 127.0.0.1 port {free}: Connection refused; "
    )


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Connection refused", "--bind"),
        ("timed out", "firewalls"),
        ("No route to host", "another with --cmd-port"),
    ],
)
def test_what_to_do_about_a_port(reason: str, remedy: str) -> None:
    assert remedy in _with_remedy(reason, "--cmd-port")


@pytest.mark.parametrize(("machine", "seen"), [("beta", ["10.0.0.1"]), ("alpha", ["127.0.0.1", "10.0.0.1"])])
def test_a_loopback_address_is_no_way_to_another_machine(machine: str, seen: list[str]) -> None:
    alpha = Deployed(Target("alpha"), "alpha", 1, 2, "alpha", ["127.0.0.1", "10.0.0.1"])
    other = Deployed(Target("other"), "other", 1, 2, machine)
    assert _seen_from(other, alpha) == ("alpha", seen, 2)


@pytest.mark.parametrize(
    ("address", "port", "name"),
    [
        ("alpha", 12502, "alpha"),
        ("alpha", 4000, "alpha:4000"),
        ("::1", 4000, "[::1]:4000"),
        ("::1", 12502, "::1"),
    ],
)
def test_how_pconnect_names_a_host(address: str, port: int, name: str) -> None:
    assert Deployed(Target("x"), address, port, 1, "x").name == name
