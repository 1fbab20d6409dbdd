"""Servers behind a router with other ports, and behind firewalls: values between all nodes arrive.

`a` and `b` are behind the router `gate`, at its address with different ports. `c` and `d` are outside, as is the
client's machine `far`.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from srp_tools.credentials import Credentials
from tests.support.lans import Lans
from tests.support.servers import make_users

pytestmark = pytest.mark.slow

GATE = "203.0.113.1"
A, B = f"{GATE}:22502/22501", f"{GATE}:22602/22601"
C, D = "203.0.113.3", "203.0.113.4"
CHAIN = "type filter hook input priority filter"
CLIENT = """
import json, sys, time, warnings
from pconnect import network_get_info, pconnect, restart
user, password, hosts, timeout, restarted, computing, removed = json.loads(sys.argv[1])
begin = time.monotonic()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    net = pconnect(hosts, user=user, password=password, local_links=False, timeout=timeout)
seconds = time.monotonic() - begin
nodes = range(1, len(net))


def exchange(nodes):
    # Each of some nodes sends an array to each other one.
    others = {node: [other for other in nodes if other != node] for node in nodes}
    for node in nodes:
        array = f"np.arange(100_000) * {node}"
        net[node].eval(f"import numpy as np\\nfor n in {others[node]}: psend({array}, sockets[n])")
    sums = [net[node].eval(f"[int(precv(sockets[n]).sum()) for n in {others[node]}]") for node in nodes]
    return all(each.result() == [sum(range(100_000)) * n for n in others[node]] for node, each in zip(nodes, sums))


right = [exchange(nodes)]
for node in restarted:
    restart(net[node])
    right.append(exchange(nodes))
where = [net[node].eval("import psutil; sorted(psutil.net_if_addrs())").result() for node in nodes]
info = network_get_info(net[1:])
for node in computing:
    command = net[node].eval("while True: pass")
    right += [exchange([other for other in nodes if other != node]), not command.done()]
if removed:
    with warnings.catch_warnings(record=True) as caught_then:
        warnings.simplefilter("always")
        net.remove(removed, grace=0.1)
    caught += caught_then
    info += network_get_info(net[1:])
    restart(net[1])
    right.append(exchange([node for node in nodes if node not in removed]))
    info += network_get_info(net[1:])
net.close()
print(json.dumps({
    "right": right, "where": where, "seconds": seconds, "warnings": [str(each.message) for each in caught],
    "ports": [each["data_port"] for each in info], "routes": [each["routes"] for each in info],
}))
"""
FORWARDS = """
table ip nat {
    chain in {
        type nat hook prerouting priority dstnat
        iifname "out" tcp dport 22502 dnat to 10.9.0.2:12502
        iifname "out" tcp dport 22602 dnat to 10.9.0.3:12502
        DATA
    }
    chain out {
        type nat hook postrouting priority srcnat
        oifname "out" masquerade
    }
}
"""
DATA = """
        iifname "out" tcp dport 22501 dnat to 10.9.0.2:12501
        iifname "out" tcp dport 22601 dnat to 10.9.0.3:12501
"""

FORWARDED = f"""
table ip nat {{
    chain forwards {{
        type nat hook output priority -100
        ip daddr 127.0.0.1 tcp dport 9502 dnat to {C}:12502
        ip daddr 127.0.0.1 tcp dport 9501 dnat to {C}:12501
        ip daddr 127.0.0.1 tcp dport 9602 dnat to {D}:12502
        ip daddr 127.0.0.1 tcp dport 9601 dnat to {D}:12502
    }}
    chain out {{
        type nat hook postrouting priority srcnat
        oifname "out" masquerade
    }}
}}
"""


class Places:
    """The machines, their servers, and a user of all servers."""

    def __init__(self, lans: Lans, credentials: Credentials) -> None:
        self._lans, self._credentials = lans, credentials
        self.allow("gate", FORWARDS.replace("DATA", DATA))

    def allow(self, machine: str, rules: str = "") -> None:
        self._lans.nft(machine, rules)

    def close(self, machine: str, rule: str) -> None:
        """Make a machine drop incoming packets that match a rule."""
        self.allow(machine, f"table ip filter {{\nchain in {{\n{CHAIN}\n{rule} drop\n}}\n}}")

    def refuse(self, machine: str, rule: str) -> None:
        """Make it reject these packets instead, which clients notice sooner."""
        self.allow(machine, f"table ip filter {{\nchain in {{\n{CHAIN}\n{rule} reject with tcp reset\n}}\n}}")

    def connect(
        self,
        *hosts: str,
        timeout: float = 30.0,
        at: str = "far",
        restarted: Sequence[int] = (),
        computing: Sequence[int] = (),
        removed: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Connect from a machine, send values between all nodes, and return the results."""
        user, password = self._credentials.user, self._credentials.password
        given = [user, password, hosts, timeout, restarted, computing, removed]
        told: dict[str, Any] = self._lans.python(at, CLIENT, json.dumps(given))
        assert all(told["right"])
        return told


@pytest.fixture(scope="module")
def lans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lans, Credentials]]:
    folder = tmp_path_factory.mktemp("lans")
    with contextlib.ExitStack() as stack:
        made = Lans(stack, folder)
        for name in ("out", "inside"):
            made.lan(name)
        made.machine("gate", out=f"{GATE}/24", inside="10.9.0.1/24")
        made.run("gate", "tee /proc/sys/net/ipv4/ip_forward", "1")
        made.machine("far", out="203.0.113.9/24")
        made.run("far", "tee /proc/sys/net/ipv4/conf/all/route_localnet", "1")
        for name, address in {"c": C, "d": D}.items():
            made.machine(name, out=f"{address}/24")
        for name, number in {"a": 2, "b": 3}.items():
            made.machine(name, inside=f"10.9.0.{number}/24", gateway="10.9.0.1")
        credentials, auth_file = make_users(folder / "users")
        made.serve("a", auth_file, f"--advertise={GATE}:22502:22501")
        made.serve("b", auth_file, f"--advertise={GATE}:22602:22601")
        made.serve("c", auth_file)
        made.serve("d", auth_file, "--one-port")
        yield made, credentials


@pytest.fixture
def places(lans: tuple[Lans, Credentials]) -> Iterator[Places]:
    made = Places(*lans)
    yield made
    for machine in ("a", "b", "c", "d", "far"):
        made.allow(machine)


def test_two_servers_behind_one_address(places: Places) -> None:
    told = places.connect(C, A, B)
    assert told["where"] == [["lo", "out"], ["inside", "lo"], ["inside", "lo"]]
    assert told["ports"] == [12501, 22501, 22601]
    assert told["routes"] == [{}, {"3": "at 10.9.0.3 port 12501"}, {}]  # past the router


def test_the_server_knows_its_data_port_outside(places: Places) -> None:
    told = places.connect(f"{GATE}:22502", f"{GATE}:22602*2")
    assert told["ports"] == [22501, 22601, 22601]


def test_one_port_is_enough_for_everything(places: Places) -> None:
    told = places.connect(D, C, f"{D}*2")
    assert told["ports"] == [12502, 12501, 12502, 12502]


def test_only_command_ports_are_open(places: Places) -> None:
    places.allow("gate", FORWARDS.replace("DATA", ""))  # the router rejects packets for its data ports
    places.close("c", "tcp dport 12501")  # and this firewall drops them
    told = places.connect(C, A, B)
    assert told["ports"] == [12502, 22502, 22602]
    assert told["routes"][0]["0"] == "through its command port"


NEW = "ip saddr {} tcp flags & (syn | ack) == syn"  # only the first packets of connections


def test_the_higher_number_dials_where_the_lower_one_cannot(places: Places) -> None:
    places.close("d", NEW.format(C))
    told = places.connect(C, D)
    assert told["routes"] == [{}, {}] and told["seconds"] < 15
    places.refuse("d", NEW.format(C))
    assert places.connect(C, D)["seconds"] < 5


def test_a_server_that_can_only_dial_out(places: Places) -> None:
    """The client might reach it through an ssh forward; here it is in the same network."""
    told = places.connect("10.9.0.2", C, at="b")
    assert told["routes"] == [{}, {}]
    assert places.connect(C, "10.9.0.2", at="b")["seconds"] < 15


def test_a_server_relays_those_that_cannot_reach_each_other(places: Places) -> None:
    places.close("c", NEW.format(D))
    places.close("d", NEW.format(C))
    told = places.connect(C, D, A, computing=[3], removed=[3])
    by_node, without, by_client = told["routes"][:3], told["routes"][3:5], told["routes"][5:]
    assert by_node == [{"2": "relayed by node 3"}, {"1": "relayed by node 3"}, {}]
    assert without == [{}, {}]
    assert by_client == [{"2": "relayed by the client"}, {"1": "relayed by the client"}]
    warning, warning_then = told["warnings"]
    assert f"node 3 ({A}) relayed the data between node 1 ({C}) and node 2 ({D})" in warning_then
    assert f"node 1 ({C}) and node 2 ({D}): through node 3 ({A})" in warning


def test_the_client_relays_where_no_server_can(places: Places) -> None:
    places.refuse("c", NEW.format(D))
    places.refuse("d", NEW.format(C))
    told = places.connect(D, C, restarted=[2, 1])
    assert told["routes"] == [{"2": "relayed by the client"}, {"1": "relayed by the client"}]
    [warning] = told["warnings"]
    assert "only while it is inside a call of this package" in warning and told["seconds"] < 15


def test_ports_that_ssh_forwards_are_for_the_client_only(places: Places) -> None:
    """The other servers rely on a server's report of its own address."""
    places.allow("far", FORWARDED)
    told = places.connect("localhost:9502/9501", "127.0.0.1:9602/9601*2")
    assert told["ports"] == [9501, 9601, 9601] and told["routes"] == [{}, {}, {}]
