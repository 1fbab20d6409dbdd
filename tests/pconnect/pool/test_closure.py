from typing import Any

import pytest

from pconnect.link.host_names import parse_hosts
from pconnect.pool.closure import Candidate, Closure, by_doubt, hosts_of, state_of


def member(number: int, *addresses: str, **more: object) -> dict[str, Any]:
    """Return a server's entry about another server."""
    told = {"id": server_id(number), "name": f"server{number}", "addresses": list(addresses), "slots": 2}
    return {**told, "how": "joined", "heard": 1.0, "gone": False, "why": "", **more}


def server_id(number: int) -> str:
    return f"{number:032x}"


def told(*members: dict[str, Any]) -> dict[str, Any]:
    return {"id": "", "members": list(members)}


def labels(candidates: list[Candidate]) -> list[str]:
    return [each.label for each in candidates]


def reach(
    closure: Closure, candidate: Candidate, number: int, *members: dict[str, Any], at: str = "10.0.0.1"
) -> bool:
    """Let a server answer at the first address of a candidate, and report its neighbours."""
    host = candidate.hosts.pop(0)
    if not closure.identify(candidate, server_id(number)):
        return False
    closure.reach(host)
    closure.tell(at, told(*members))
    return True


def closure_of(*hosts: str) -> Closure:
    return Closure(parse_hosts(list(hosts)))


def test_rounds_continue_until_no_server_names_a_new_one() -> None:
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    assert reach(closure, alpha, 1, member(2, "beta"), member(3, "gamma"))
    beta, gamma = closure.next_round()
    assert labels([beta, gamma]) == ["beta", "gamma"]
    assert reach(closure, beta, 2, member(1, "alpha"), member(3, "gamma"), member(4, "delta"))
    assert reach(closure, gamma, 3)
    [delta] = closure.next_round()
    assert reach(closure, delta, 4, member(2, "beta"))
    assert closure.next_round() == [] and closure.rounds == 3 and closure.missing() == {}


def test_the_state_of_a_member() -> None:
    assert state_of(member(1)) == "here"
    assert state_of(member(1, gone=True)) == "gone"
    assert state_of(member(1, id="")) == state_of(member(1, why="refused")) == "not reached"


def test_a_server_with_two_names_is_one() -> None:
    closure = closure_of("alpha", "10.0.0.1")
    alpha, again = closure.next_round()
    assert reach(closure, alpha, 1)
    assert not reach(closure, again, 1)
    assert closure.next_round() == [] and closure.missing() == {}


def test_a_server_named_several_times_has_several_places() -> None:
    closure = closure_of("alpha*2", "beta", "alpha")
    alpha, beta = closure.next_round()
    assert closure.given == [alpha, alpha, beta, alpha]


def test_addresses_of_other_servers_are_skipped() -> None:
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    reach(closure, alpha, 1, member(2, "172.17.0.1", "10.0.0.2"))
    [beta] = closure.next_round()
    assert not reach(closure, beta, 1), "that is alpha itself"
    assert labels(closure.next_round()) == ["172.17.0.1"]
    assert reach(closure, beta, 2)
    assert closure.next_round() == [] and closure.missing() == {}


def test_a_different_server_is_not_accepted() -> None:
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    reach(closure, alpha, 1, member(2, "beta"))
    [beta] = closure.next_round()
    assert not reach(closure, beta, 7)
    beta.errors.append(OSError("another server answers there"))
    assert closure.next_round() == []
    assert list(closure.missing()) == ["beta"]


def test_further_addresses_are_tried_when_others_name_them() -> None:
    closure = closure_of("alpha", "gamma")
    alpha, gamma = closure.next_round()
    reach(closure, alpha, 1, member(2, "10.9.9.9"))
    reach(closure, gamma, 3, member(2, "10.9.9.9", "beta"))
    [beta] = closure.next_round()
    assert [host.name for host in beta.hosts] == ["10.9.9.9", "beta"]
    beta.hosts.clear()
    beta.errors.append(OSError("nothing answers"))
    assert list(closure.missing()) == ["10.9.9.9"]
    closure.tell("10.0.0.1", told(member(2, "beta:4000")))
    assert closure.next_round() == [beta] and [host.port for host in beta.hosts] == [4000]
    reach(closure, beta, 2)
    assert closure.missing() == {}


def test_likely_servers_come_first_and_sources_take_turns() -> None:
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    announced: dict[str, Any] = {"how": "announces itself"}
    false = [member(n, f"10.9.9.{n}", heard=0.0) for n in range(10, 30)]
    old, new = member(2, "old", heard=50.0, **announced), member(3, "new", heard=5.0, **announced)
    reach(closure, alpha, 1, old, new, member(4, "joined", heard=20.0))
    closure.tell("10.0.0.66", told(*false))
    assert labels(by_doubt(closure.next_round()))[:6] == [
        "10.9.9.10", "joined", "10.9.9.11", "new", "10.9.9.12", "old"
    ]  # fmt: skip


def test_the_first_address_of_each_line_comes_before_the_others() -> None:
    """A false entry under the id of a server thus does not put many addresses before the true one."""
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    false = member(2, *(f"10.9.9.{n}" for n in range(16)))
    reach(closure, alpha, 1, false, member(2, "beta", "192.168.1.2"))
    [beta] = closure.next_round()
    assert [host.name for host in beta.hosts][:4] == ["10.9.9.0", "beta", "10.9.9.1", "192.168.1.2"]


def test_a_server_that_is_gone_is_not_tried_unless_another_names_it() -> None:
    closure = closure_of("alpha", "gamma")
    alpha, gamma = closure.next_round()
    reach(
        closure,
        alpha,
        1,
        member(2, "beta", gone=True, heard=200.0),
        member(4, "delta", gone=True, why="refused"),
    )
    reach(closure, gamma, 3, member(2, "beta"))
    [beta] = closure.next_round()
    reach(closure, beta, 2)
    [(label, error)] = closure.missing().items()
    assert label == "delta" and str(error) == "server4 is gone: refused"


def test_a_server_without_an_id_is_tried_by_name() -> None:
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    reach(closure, alpha, 1, member(0, "beta", id=""), member(0, "alpha", id=""))
    [beta] = closure.next_round()
    assert beta.label == "beta"
    reach(closure, beta, 2, member(0, "alpha", id=""))
    assert closure.next_round() == []


def test_a_loopback_address_means_the_machine_of_its_source() -> None:
    hosts = hosts_of(["127.0.0.1:4000", "localhost", "[::1]:4001", "10.0.0.3"], "fe80::5")
    assert [(host.name, host.port) for host in hosts] == [
        ("fe80::5", 4000), ("fe80::5", 12502), ("fe80::5", 4001), ("10.0.0.3", 12502),
    ]  # fmt: skip
    for source in ("127.0.0.1", "/run/pserver.socket"):
        assert hosts_of(["127.0.0.1:4000"], source)[0].label == "127.0.0.1:4000"


@pytest.mark.parametrize(
    "text", ["", "a b", "alpha:http", "http://alpha", "alpha*3", "x:0", "\0", "unix:/run/x"]
)
def test_invalid_addresses_are_left_out(text: str) -> None:
    assert hosts_of([text, "beta"], "10.0.0.1")[-1].name == "beta"
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    reach(closure, alpha, 1, member(2, text))
    assert len(closure.next_round()) <= 1


def test_the_number_of_attempts_is_limited() -> None:
    closure = closure_of("alpha")
    [alpha] = closure.next_round()
    reach(closure, alpha, 1, member(2, *(f"10.0.0.{n}" for n in range(200))))
    [beta] = closure.next_round()
    assert len(beta.hosts) == 32
    closure.tell("10.0.0.1", told(*(member(n, f"10.0.0.{n % 250}:{1 + n}") for n in range(3, 12_000))))
    assert len(closure.next_round()) <= 10_000
