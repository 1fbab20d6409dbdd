import ipaddress
import os
import socket
import subprocess
import sys

import pytest

from pserver.system.interfaces import listener_at, own_addresses
from tests.support.programs import program

# A network namespace stands for a machine whose interface has several addresses.
_BUILD = """
set -e
ip link add one type veth peer name other
ip link set lo up
for address in 10.1.0.1/24 10.2.0.1/24 10.3.0.1/16 fd00::1/64 fd00::2/64 169.254.7.7/16; do
    ip addr add $address dev one nodad
done
ip link set one up
exec "$@"
"""
_PRINT = "from pserver.system.interfaces import own_addresses; print(*own_addresses([]))"


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "0.0.0.0"])
def test_addresses_that_lead_others_to_themselves_are_left_out(bind: str) -> None:
    assert own_addresses([bind]) == []


def test_bound_addresses_are_the_only_ones() -> None:
    assert own_addresses(["192.0.2.7"]) == ["192.0.2.7"]
    assert own_addresses(["127.0.0.1", "192.0.2.7", "2001:db8::1"]) == ["192.0.2.7", "2001:db8::1"]


def test_all_addresses_of_the_machine_can_be_bound() -> None:
    found = own_addresses([])
    assert len(set(found)) == len(found)
    for text in found:
        family = socket.AF_INET if ipaddress.ip_address(text).version == 4 else socket.AF_INET6
        with socket.socket(family) as sock:
            sock.bind((text, 0))


def test_all_addresses_of_an_interface_are_found() -> None:
    for name, package in {"ip": "iproute2", "unshare": "util-linux"}.items():
        program(name, package)
    spaces = ["--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    probe = ["unshare", *spaces, "ip", "link", "add", "one", "type", "veth", "peer", "name", "other"]
    permitted = subprocess.run(probe, capture_output=True, text=True, check=False)
    if permitted.returncode:
        pytest.skip(f"the system permits no network namespaces here: {permitted.stderr.strip()}")
    command = ["unshare", *spaces, "sh", "-c", _BUILD, "sh", sys.executable, "-c", _PRINT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = done.stdout.split()
    assert found[:3] == ["10.1.0.1", "10.2.0.1", "10.3.0.1"], done.stderr
    assert set(found[3:]) == {"fd00::1", "fd00::2"}


def test_who_listens_at_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = listener_at(port)
        assert str(found).endswith(f"(pid {os.getpid()})")
        assert found is not None
        assert found.account == ""
    assert listener_at(port) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
def test_whose_a_port_is_can_be_seen_by_anyone() -> None:
    """For another account's process, the system reveals the account, but not the process."""
    code = (
        "import os, sys; from pserver.system.interfaces import listener_at\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(listener_at(int(sys.argv[1])))"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", code, str(listener.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "a process of the account root\n", done.stderr
