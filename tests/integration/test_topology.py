"""Pools of any topology: clients find all members from each one, and jobs continue without the middle one.

The machines have their own addresses in network namespaces; servers and clients run on these machines. The homes belong
to one account and are visible from each machine.
"""

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.machines import Machine, python_of_the_tests, run_machines
from tests.support.tutorial import ROOT
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_KILL = """
import contextlib, sys, psutil
server = psutil.Process(int(sys.stdin.readline()))
for process in [server, *server.children(recursive=True)]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
"""
# Its input has, for the control socket of each server, a request and the neighbours to wait for; a member that is gone
# has a "-" after its name.
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
# Runs a map of 2,000 jobs, the last 1,000 of which wait for the file `gate`. Meanwhile the test kills and restarts a
# server, which must then run one of the waiting jobs. The client sends no commands before: a node whose workspace might
# hold variables does not come back by itself.
_MAP = """
import json, socket, sys, time
from pathlib import Path
from pconnect import pconnect
from tests.support.waiting import wait_until
folder, lost_name = Path(sys.argv[1]), sys.argv[2]
def work(table, k):
    while k >= 1000 and not (folder / "gate").exists():
        time.sleep(0.01)
    time.sleep(0.002)
    return table[k % 3] + k, socket.gethostname(), time.monotonic()
def read(name):
    wait_until((folder / name).exists, name)
    return float((folder / name).read_text())
def processed(table):
    return {row[0]: row[4] for row in table.workers() if row[2] == "all"}
with pconnect("localhost", join=True, elastic=0.5) as net:
    statistics = net.statistics()
    before = {host: document["totals"]["jobs_done"] for host, document in statistics.documents.items()}
    names = [node.submit(socket.gethostname).result(40) for node in net[1:]]
    [lost] = [node for node, name in enumerate(names, 1) if name == lost_name]
    results = net.map(work, [net.broadcast([10, 20, 30])] * 2000, range(2000), retries=3)
    got = [next(results) for _ in range(100)]
    (folder / "ready").touch()
    got += [next(results) for _ in range(900)]
    killed, back = read("killed"), read("back")
    def runs_there():
        return any(row[0] == lost and row[2] == "all" and row[8] for row in statistics.workers())
    wait_until(runs_there, f"jobs at {lost_name}")
    seconds = time.monotonic() - back
    (folder / "gate").touch()
    got += results
    assert [value for value, *_ in got] == [[10, 20, 30][k % 3] + k for k in range(2000)]
    # Each server counts its jobs since its start; the lost server's earlier count is gone.
    known = names + [where for _, where, when in got if where != lost_name or when > killed]
    known.remove(lost_name)  # the count of that job is gone, too
    ran = {node: known.count(name) for node, name in enumerate(names, 1)}
    wait_until(lambda: processed(statistics) == ran, f"{ran}, and not {processed(statistics)}")
    assert min(ran.values()) > 0, ran
    def done():
        documents = statistics.update().documents
        before[net[lost].host] = 0
        return [documents[node.host]["totals"]["jobs_done"] - before[node.host] for node in net[1:]]
    wait_until(lambda: done() == list(ran.values()), f"{ran}, and not {done()}")
    assert net.reconnect() == [lost]
    again = net.eval("__import__('socket').gethostname()").result()
    assert again == names and list(net.map(abs, range(-50, 0))) == list(range(50, 0, -1))
    print(json.dumps([names, {host: str(why) for host, why in net.missing.items()}, seconds]))
"""
# Which server joins which.
_NAMES = A, B, C, D, E = "alpha", "beta", "gamma", "delta", "epsilon"
_CHAIN = {A: B, B: C, C: D, D: E}
_TOPOLOGIES: Mapping[str, Mapping[str, str]] = {
    "chain": _CHAIN,
    "ring": _CHAIN | {E: A},
    "star": dict.fromkeys((A, B, D, E), C),
    "mixed": {B: D, C: B, A: B, E: D},  # the four of a common example, and one more
}
_MIDDLE = {"chain": C, "ring": C, "star": C, "mixed": B}


class Pool:
    """Servers on machines, each with the name of its machine."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self.machines = machines
        self.topology = ""
        self.joins: Mapping[str, str] = {}
        with ThreadPoolExecutor(len(machines)) as threads:
            list(threads.map(self.start, machines))

    def start(self, name: str) -> None:
        self.machines[name].run(f"python3 -m pserver start --name {name} --announce-interval 1 --slots 1")

    def kill(self, name: str) -> None:
        """Kill a server with all its sessions, as a power cut does."""
        [file] = (self.machines[name].home / "run").rglob(f"{name}.pid")
        self.machines[name].run(f"python3 -c '{_KILL}' < {file}")

    def arrange(self, joins: Mapping[str, str]) -> None:
        """Have each server leave its neighbour and join another one; wait until all of them know."""
        neighbours: dict[str, set[str]] = {name: set() for name in _NAMES}
        for name, other in joins.items():
            neighbours[name].add(other)
            neighbours[other].add(name)
        before, self.joins = self.joins, joins
        words = {
            name: [(word, each[name]) for word, each in (("leave", before), ("join", joins)) if name in each]
            for name in _NAMES
        }
        self._step({name: (words[name], sorted(neighbours[name])) for name in _NAMES})

    def wait_until_known(self, name: str, neighbours: set[str]) -> None:
        self._step({name: ([], sorted(neighbours))})

    def _step(self, plan: Mapping[str, tuple[list[tuple[str, str]], list[str]]]) -> None:
        paths = {
            str(self.machines[name].home / "run" / f"{name}.control"): each for name, each in plan.items()
        }
        self.machines[A].run(f"python3 -c '{_STEP}' '{json.dumps(paths)}'")

    def found_from(self, *names: str) -> list[tuple[set[str], dict[str, str]]]:
        """Return the servers that a client on each of these machines connects to, and the missing ones."""
        with ThreadPoolExecutor(len(names)) as threads:
            return list(threads.map(self._found_from, names))

    def _found_from(self, name: str) -> tuple[set[str], dict[str, str]]:
        shown = self.machines[name].run(f"python3 -c '{_FIND}'")
        names, missing = json.loads(shown[shown.index("[") :])
        assert names[0] == name and len(names) == len(set(names)), "one's own comes first, and none twice"
        return set(names), missing


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


@pytest.fixture(scope="module", params=_TOPOLOGIES)
def arranged(pool: Pool, request: pytest.FixtureRequest) -> Pool:
    pool.arrange(_TOPOLOGIES[request.param])
    pool.topology = request.param
    return pool


def test_from_each_member_all_are_found(arranged: Pool) -> None:
    assert arranged.found_from(*_NAMES) == [(set(_NAMES), {})] * 5


def test_2000_jobs_while_the_member_in_the_middle_is_killed_and_comes_back(
    arranged: Pool, tmp_path: Path
) -> None:
    client, lost = arranged.machines[A], _MIDDLE[arranged.topology]
    script = tmp_path / "map.py"
    script.write_text(_MAP)
    client.run(
        f"(timeout 100 python3 {script} {tmp_path} {lost} > {tmp_path / 'told'} 2>&1; touch {tmp_path / 'over'}) &"
    )

    def wait_for(name: str) -> None:
        wait_until(lambda: (tmp_path / name).exists() or (tmp_path / "over").exists(), name, timeout=100)

    def note(name: str) -> None:
        (tmp_path / "now").write_text(str(time.monotonic()))
        (tmp_path / "now").rename(tmp_path / name)  # the file is complete or does not exist

    wait_for("ready")
    arranged.kill(lost)
    note("killed")
    arranged.start(lost)
    note("back")
    wait_for("over")
    told = (tmp_path / "told").read_text()
    names, missing, seconds = json.loads(told.splitlines()[-1])
    assert names[0] == A and sorted(names) == sorted(_NAMES) and not missing, told
    assert seconds < 10.0


def test_partitions_that_merge_and_a_member_in_the_middle_that_is_gone_and_back(pool: Pool) -> None:
    pool.arrange({A: B, C: D, E: D})
    assert pool.found_from(A, B, C, E) == [({A, B}, {})] * 2 + [({C, D, E}, {})] * 2
    pool.arrange({A: B, C: D, E: D, B: D})
    assert pool.found_from(E) == [(set(_NAMES), {})]
    pool.kill(D)
    [(found, missing)] = pool.found_from(A)
    assert found == {A, B} and len(missing) == 1 and "refused" in str(missing)
    pool.wait_until_known(B, {A, f"{D}-"})
    [(found, missing)] = pool.found_from(B)
    assert found == {A, B} and "delta is gone" in str(missing)
    # It still knows its members, and they find it again.
    pool.start(D)
    pool.wait_until_known(B, {A, D})
    assert pool.found_from(D, A) == [(set(_NAMES), {})] * 2
