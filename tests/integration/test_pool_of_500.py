"""The cost of a pool of 500 servers in messages and rounds: nothing grows faster than the number of servers."""

import json
from pathlib import Path

import pytest

from pserver.cli import main
from pserver.ctl.asking import ask
from pserver.system.pidfile import find_server
from srp_tools.generate import generate_srp_data
from tests.support.places import OPTIONS, add_user, use_private_places
from tests.support.simulated_pool import COUNT, INTERVAL, TOPOLOGIES, SimulatedPool

# From the last server: the number of rounds in which a client queries all newly found servers.
ROUNDS = {"chain": COUNT, "ring": COUNT // 2 + 1, "star": 3, "random": 6}


@pytest.fixture(scope="module")
def pools() -> dict[str, SimulatedPool]:
    made = {name: SimulatedPool(COUNT, topology(COUNT)) for name, topology in TOPOLOGIES.items()}
    for pool in made.values():
        pool.announce(1.0)
        pool.announce(1.0 + INTERVAL)
    return made


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_client_logs_in_once_at_each_server_and_is_told_each_link_twice(
    pools: dict[str, SimulatedPool], name: str
) -> None:
    pool = pools[name]
    for start in (0, COUNT // 2, COUNT - 1):
        closure, found, counts = pool.find(start, 40.0)
        assert found[0] == start and sorted(found) == list(range(COUNT)) and closure.missing() == {}
        assert set(counts.logins.values()) == {1}
        assert closure.rounds <= ROUNDS[name]
        links = sum(len(set(joins)) for joins in TOPOLOGIES[name](COUNT).values())
        assert sum(counts.bytes_told.values()) < 150 * COUNT + 350 * 2 * links
        assert max(counts.bytes_told.values()) < 350 * COUNT
    assert pool.find(COUNT - 1, 40.0)[0].rounds == ROUNDS[name]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_server_hears_of_its_own_members_only_and_of_many_less_often(
    pools: dict[str, SimulatedPool], name: str
) -> None:
    pool = pools[name]
    joins = TOPOLOGIES[name](COUNT)
    assert sum(pool.announced.logins.values()) == 2 * sum(len(set(each)) for each in joins.values())
    for members in pool.servers:
        assert len(members.announced) + len(members.joined) < COUNT
        logins = sum(1 / entry.interval for entry in members.announced.values())
        assert logins <= max(2.0, len(members.announced) / INTERVAL) + 1e-9, "in a second"


def test_members_that_are_gone_are_reported_by_name_and_cost_no_more(pools: dict[str, SimulatedPool]) -> None:
    pool = pools["star"]
    pool.dead = set(range(400, 410))
    _, found, counts = pool.find(COUNT - 1, 40.0)
    assert len(found) == COUNT - 10 and sum(counts.logins.values()) == COUNT - 10
    pool.announce(5000.0)  # the others return immediately; these stay missing
    pool.servers[0].step(5000.0)
    closure, found, _ = pool.find(COUNT - 1, 5001.0)
    assert len(found) == COUNT - 10 and len(closure.missing()) == 10
    assert all("is gone" in str(why) for why in closure.missing().values())
    pool.dead = set()


def test_a_real_server_has_its_members_again_after_a_restart(
    pools: dict[str, SimulatedPool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_private_places(tmp_path, monkeypatch)
    add_user()
    generate_srp_data(member=True, bits=2048)
    folder = tmp_path / "state" / "pserver" / "hub" / "pool"
    folder.mkdir(mode=0o700, parents=True)
    kept = pools["star"].servers[0].dump()
    (folder / "members.json").write_text(json.dumps(kept))
    (folder / "members.json").chmod(0o600)
    assert main(["start", "--name=hub", *OPTIONS]) == 0
    try:
        server = find_server("hub")
        assert server is not None
        members = ask(server, {"do": "members"})["members"]
        assert {each["id"] for each in members} == {each.own for each in pools["star"].servers[1:]}
    finally:
        assert main(["stop", "--name=hub"]) == 0


def test_a_server_in_the_middle_that_is_gone_parts_the_pool(pools: dict[str, SimulatedPool]) -> None:
    pool = pools["chain"]
    pool.dead = {200}
    assert len(pool.find(0, 40.0)[1]) == 200 and len(pool.find(COUNT - 1, 40.0)[1]) == COUNT - 201
    pool.dead = set()
    assert len(pools["ring"].find(0, 40.0)[1]) == COUNT
    pools["ring"].dead = {200}
    assert len(pools["ring"].find(0, 40.0)[1]) == COUNT - 1, "a ring has another way"
    pools["ring"].dead = set()
