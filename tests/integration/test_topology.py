"""Pools of any topology: from each member, all are found.

Those of machines with addresses of their own are in network namespaces; what servers and clients do there, is done at
the machines.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pconnect import pconnect
from srp_tools.generate import generate_srp_data
from tests.support.machines import Machine, python_of_the_tests, run_machines
from tests.support.servers import Server, make_users, run_server
from tests.support.tutorial import ROOT
from tests.support.waiting import wait_until


def test_seed_example_ABCD(tmp_path: Path) -> None:  # noqa: N802 - these are their names there
    """D is there; B joins D, C joins B, A joins B. Each host offers and uses: it finds all four, itself first."""
    users = make_users(tmp_path / "users")
    generate_srp_data(member=True, folder=tmp_path / "users", bits=2048)
    servers: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:
        for name, remote_server in (("D", None), ("B", "D"), ("C", "B"), ("A", "B")):
            options = [] if remote_server is None else [f"--join={servers[remote_server].host}"]
            servers[name] = stack.enter_context(
                run_server(tmp_path / name, f"--spool-dir={tmp_path / 'state'}", *options, users=users)
            )
        for name, neighbours in {"A": 1, "B": 3, "C": 1, "D": 1}.items():
            wait_until(lambda: _heard(servers[name]) == neighbours, f"the neighbours of {name}")  # noqa: B023
        names = {server.host: name for name, server in servers.items()}
        found = {}
        for name, server in servers.items():
            credentials = server.credentials
            with pconnect(
                server.host, join=True, user=credentials.user, password=credentials.password, profile=""
            ) as net:
                found[name] = "".join(names[node.host] for node in net[1:])
                assert net.map(abs, range(-8, 0)) is not None
        assert {name: "".join(sorted(order)) for name, order in found.items()} == dict.fromkeys(
            "ABCD", "ABCD"
        )
        assert all(order.startswith(name) for name, order in found.items())
        assert found["A"].startswith("AB") and found["D"].startswith("DB"), "then as they are found"


def _heard(server: Server) -> int:
    return sum(each["heard"] is not None for each in server.ask("members")["members"])


# Gets, by the control sockets of servers, what each is asked for and which neighbours it is to have then; a member that
# is gone has a "-" behind its name.
_STEP = """
import json, sys, time
from pathlib import Path
from pserver.ctl.asking import Question
def ask(path, **request):
    socket = next(Path(path).parent.rglob(Path(path).name))
    return Question(socket, request).answer(time.monotonic() + 40)
plan = json.loads(sys.argv[1])
for path, (words, _) in plan.items():
    for word, host in words:
        ask(path, do=word, host=host)
deadline = time.monotonic() + 40
for path, (_, expected) in plan.items():
    known = None
    while expected is not None and known != expected:
        if time.monotonic() > deadline:
            sys.exit(f"{path}: {members} instead of {expected}")
        members = ask(path, do="members")["members"]
        known = sorted({each["name"] + "-" * each["gone"] for each in members if each["heard"] is not None})
        time.sleep(0.02)
"""
_FIND = """
import json, warnings
from pconnect import pconnect
warnings.simplefilter("ignore")
with pconnect("localhost", join=True) as net:
    names = net.eval("import socket; socket.gethostname()").result()
    print(json.dumps([names, {host: str(why) for host, why in net.missing.items()}]))
"""
# Who joins whom.
_NAMES = A, B, C, D, E = "alpha", "beta", "gamma", "delta", "epsilon"
_CHAIN = {A: B, B: C, C: D, D: E}
_TOPOLOGIES: Mapping[str, Mapping[str, str]] = {
    "chain": _CHAIN,
    "ring": _CHAIN | {E: A},
    "star": dict.fromkeys((A, B, D, E), C),
    "mixed": {B: D, C: B, A: B, E: D},
}


class Pool:
    """Servers at machines, each of the name of its machine."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self.machines = machines
        self._joins: Mapping[str, str] = {}
        for name in machines:
            self.start(name)

    def start(self, name: str) -> None:
        self.machines[name].run(f"python3 -m pserver start --name {name} --announce-interval 1 --slots 1")

    def kill(self, name: str) -> None:
        machine = self.machines[name]
        machine.run(f"kill -9 $(python3 -m pserver status --json | {_PID})")

    def arrange(self, joins: Mapping[str, str]) -> None:
        """Have each server leave the one that it has joined, and join another; wait until all know of it."""
        neighbours: dict[str, set[str]] = {name: set() for name in _NAMES}
        for name, other in joins.items():
            neighbours[name].add(other)
            neighbours[other].add(name)
        before, self._joins = self._joins, joins
        words = {
            name: [(word, each[name]) for word, each in (("leave", before), ("join", joins)) if name in each]
            for name in _NAMES
        }
        self._step({name: (words[name], sorted(neighbours[name])) for name in _NAMES})

    def wait_until_known(self, name: str, neighbours: set[str]) -> None:
        self._step({name: ([], sorted(neighbours))})

    def _step(self, plan: Mapping[str, tuple[list[tuple[str, str]], list[str]]]) -> None:
        # The homes are those of one account, and can be seen from each machine.
        paths = {
            str(self.machines[name].home / "run" / f"{name}.control"): each for name, each in plan.items()
        }
        self.machines[A].run(f"python3 -c '{_STEP}' '{json.dumps(paths)}'")

    def found_from(self, name: str) -> tuple[set[str], dict[str, str]]:
        """Return which servers a client on that machine connects, and what it misses."""
        shown = self.machines[name].run(f"python3 -c '{_FIND}'")
        names, missing = json.loads(shown[shown.index("[") :])
        assert names[0] == name, "one's own comes first"
        return set(names), missing


_PID = "python3 -c 'import json, sys; print(json.load(sys.stdin)[0][\"pid\"])'"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("machines")
    with run_machines(folder, _NAMES, {"PYTHONPATH": str(ROOT)}) as machines:
        python_of_the_tests(folder)
        first, *others = machines.values()
        first.run(
            "python3 -m srp_tools.cli --random --bits 2048 alice && python3 -m srp_tools.cli --member --bits 2048"
        )
        for machine in others:
            machine.run(f"mkdir -m 700 .config; cp -a {first.home}/.config/pserver .config/")
        yield Pool(machines)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("topology", _TOPOLOGIES)
def test_from_each_member_all_are_found(pool: Pool, topology: str) -> None:
    pool.arrange(_TOPOLOGIES[topology])
    assert [pool.found_from(name) for name in _NAMES] == [(set(_NAMES), {})] * 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_partitions_that_merge_and_a_member_in_the_middle_that_is_gone_and_back(pool: Pool) -> None:
    pool.arrange({A: B, C: D, E: D})
    assert pool.found_from(A) == pool.found_from(B) == ({A, B}, {})
    assert pool.found_from(C) == pool.found_from(E) == ({C, D, E}, {})
    pool.arrange({A: B, C: D, E: D, B: D})
    assert pool.found_from(A)[0] == pool.found_from(E)[0] == set(_NAMES)
    pool.kill(D)
    found, missing = pool.found_from(A)
    assert found == {A, B} and len(missing) == 1 and "refused" in str(missing)
    pool.wait_until_known(B, {A, f"{D}-"})
    found, missing = pool.found_from(B)
    assert found == {A, B} and "delta is gone" in str(missing)
    # It knows its members yet, and they find it again.
    pool.start(D)
    assert pool.found_from(D) == (set(_NAMES), {})
    pool.wait_until_known(B, {A, D})
    assert pool.found_from(A) == (set(_NAMES), {})
