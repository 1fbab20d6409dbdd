import json
from typing import Any

import pytest

from pserver.pool.member_list import MISSES, MOST_MEMBERS, MOST_OF_SOURCE, MemberList, Whence
from srp_tools.errors import ConfigurationError

OWN, OTHER, THIRD = "00" * 16, "11" * 16, "22" * 16


def words(id_: str = OTHER, **more: object) -> dict[str, Any]:
    said = {"id": id_, "name": "beta", "addresses": [], "slots": 2, "interval": 30, "at": 100.0}
    return {**said, "secret": "5a" * 32, **more}


def announce(members: MemberList, now: float = 0.0, source: str = "10.0.0.2", **more: Any) -> bool:
    return members.announce(words(**more), Whence("member+pool", source, source), now)[1]


def shown(members: MemberList, now: float = 0.0) -> list[tuple[object, object, object]]:
    return [(each["name"], each["addresses"], each["gone"]) for each in members.facts(now)]


def test_a_member_is_news_once() -> None:
    members = MemberList(OWN)
    assert announce(members)
    assert not announce(members, 30.0)
    assert shown(members) == [("beta", ["10.0.0.2"], False)]
    assert next(members.facts(40.0))["heard"] == 10.0


def test_a_member_that_is_silent_is_gone_and_later_forgotten() -> None:
    members = MemberList(OWN)
    announce(members)
    assert members.step(MISSES * 30.0) == []
    assert [entry.member.name for entry in members.step(MISSES * 30.0 + 1)] == ["beta"]
    assert shown(members) == [("beta", ["10.0.0.2"], True)]
    assert members.step(MISSES * 30.0 + 2) == []
    assert announce(members, 200.0), "it is back"
    assert shown(members) == [("beta", ["10.0.0.2"], False)]
    members.step(1000.0)
    members.step(5000.0)
    assert shown(members) == []


def test_a_server_does_not_list_itself() -> None:
    members = MemberList(OWN)
    with pytest.raises(ConfigurationError, match="the server itself"):
        announce(members, id_=OWN)
    assert shown(members) == []


def test_a_false_announcement_costs_a_line_and_changes_no_other() -> None:
    members = MemberList(OWN)
    announce(members, addresses=["192.168.1.2"])
    before = shown(members)
    announce(members, secret="66" * 32, addresses=["10.0.0.67"])  # under the same id, from the same address
    assert len(shown(members)) == 2
    for wrong in (
        {"name": "\0"},
        {"addresses": ["x"] * 10**6},
        {"interval": "often"},
        {"interval": 0},
        {"interval": 3601},
        {"interval": 10**400},
        {"at": None},
        {"at": 10**400},
        {"secret": None},
        {"secret": "5A" * 32},
        {"secret": "short"},
    ):
        with pytest.raises(ConfigurationError):
            announce(members, **wrong)
    assert members.leave(words(THIRD), 0.0) is None and members.leave(words(secret="77" * 32), 0.0) is None
    assert members.leave(words(secret="66" * 32), 0.0) is not None
    assert shown(members) == before


def test_the_secret_is_not_kept() -> None:
    members = MemberList(OWN)
    announce(members)
    assert "5a" * 32 not in json.dumps([members.dump(), members.all_facts(0.0)])


def test_what_was_sent_before_changes_nothing() -> None:
    members = MemberList(OWN)
    announce(members, at=100.0)
    with pytest.raises(ConfigurationError, match="sent before"):
        announce(members, at=99.0, name="old")
    assert members.leave(words(at=99.0), 0.0) is None
    assert members.leave(words(at=101.0), 0.0) is not None
    with pytest.raises(ConfigurationError, match="sent before"):
        announce(members, at=100.0)
    assert shown(members) == []
    announce(members, at=102.0)
    announce(members, at=30.0), "its clock was set back"
    members.leave(words(at=30.0), 0.0)
    members.step(100.0)
    assert members.left == {}
    with pytest.raises(ConfigurationError):
        members.leave({}, 0.0)


def test_there_is_an_end_to_what_is_kept_of_those_that_left() -> None:
    members = MemberList(OWN)
    for number in range(MOST_MEMBERS + 5):
        announce(members, id_=f"{number + 1:032x}")
        members.leave(words(f"{number + 1:032x}"), 0.0)
    assert len(members.left) == MOST_MEMBERS


def filled(members: MemberList) -> None:
    for number in range(MOST_MEMBERS):
        announce(members, 1000.0 if number else 0.0, f"10.0.{number // 20}.1", id_=f"{number + 1:032x}")


def test_a_full_list_takes_a_new_member_for_one_that_is_gone() -> None:
    members = MemberList(OWN)
    filled(members)
    with pytest.raises(ConfigurationError, match="already has 1000 members"):
        announce(members, 1000.0, id_="ff" * 16)
    assert not announce(members, 1000.0, "10.0.0.1", id_=f"{5:032x}"), "known members come back"
    members.step(1000.0)
    announce(members, 1000.0, id_="ff" * 16)
    assert len(shown(members)) == MOST_MEMBERS


def test_one_address_has_so_many_members_and_makes_room_for_its_own_only() -> None:
    members = MemberList(OWN)
    announce(members, 0.0, "10.0.0.9", id_="ee" * 16)
    for number in range(MOST_OF_SOURCE):
        announce(members, 1.0 + number, id_=f"{number + 1:032x}")
    announce(members, 50.0, id_=f"{1:032x}")
    announce(members, 60.0, id_="ff" * 16)
    ids = {id_ for id_, _ in members.announced}
    assert len(ids) == MOST_OF_SOURCE + 1 and f"{2:032x}" not in ids, "the one silent for longest is dropped"
    assert {"ee" * 16, "ff" * 16, f"{1:032x}"} <= ids


def test_members_are_forgotten_by_id_by_address_and_with_their_user() -> None:
    members = MemberList(OWN)
    for number in range(1, 4):
        announce(members, source=f"10.0.0.{number}", id_=f"{number:032x}")
    members.is_changed = False
    assert members.forget("10.0.0.7") == [] and not members.is_changed
    assert [each.id for each in members.forget("10.0.0.1")] == [f"{1:032x}"] and members.is_changed
    assert [each.id for each in members.forget(f"{2:032x}")] == [f"{2:032x}"]
    assert members.keep_users(lambda user: user == "member+pool") == []
    assert len(members.keep_users(lambda _: False)) == 1 and shown(members) == []


def test_many_members_are_asked_to_come_less_often() -> None:
    members = MemberList(OWN)
    intervals = [
        members.announce(words(f"{n + 1:032x}"), Whence("m", f"10.0.{n // 20}.1", "a"), 0.0)[0].interval
        for n in range(500)
    ]
    assert intervals[0] == intervals[59] == 30.0 and intervals[-1] == 250.0


def test_a_server_that_was_joined_is_listed_before_it_answers() -> None:
    members = MemberList(OWN)
    members.join("gamma:12600", given=True)
    assert shown(members) == [("gamma:12600", ["gamma:12600"], False)]
    answer = words(name="gamma", addresses=["10.0.0.3:12600"], again=60.0)
    assert members.answer("gamma:12600", answer, 1.0)
    assert not members.answer("gamma:12600", answer, 2.0)
    assert shown(members) == [("gamma", ["gamma:12600", "10.0.0.3:12600"], False)]
    assert members.joined["gamma:12600"].interval == 60.0
    for count in range(MISSES):
        assert members.miss("gamma:12600", "refused", 5.0) == (count == 0)
    assert shown(members)[0][2] is True
    assert members.answer("gamma:12600", answer, 3.0), "it is back"
    assert shown(members)[0][2] is False
    assert members.part("gamma:12600") and not members.part("gamma:12600")
    assert not members.answer("gamma:12600", answer, 4.0) and not members.miss("gamma:12600", "", 5.0)


def test_a_server_that_has_other_words_each_time_does_not_fill_the_log() -> None:
    members = MemberList(OWN)
    members.join("gamma", given=True)
    answer = words(name="gamma", again=60.0)
    assert members.miss("gamma", "one", 0.0)
    assert not members.miss("gamma", "two", 30.0)
    assert members.miss("gamma", "three", 700.0)
    assert members.answer("gamma", answer, 710.0) and not members.answer("gamma", answer, 720.0)
    assert not members.miss("gamma", "four", 730.0) and not members.answer("gamma", answer, 740.0)
    assert not members.miss("gamma", "five", 750.0)
    assert members.miss("gamma", "five", 1400.0), "it is still unreachable"
    assert members.joined["gamma"].why == "five"


def test_what_is_kept_is_the_same_later() -> None:
    members = MemberList(OWN)
    announce(members, addresses=["192.168.1.2"])
    announce(members, id_=THIRD, source="10.0.0.3")
    members.step(200.0)
    announce(members, 200.0)
    members.join("given", given=True)
    members.join("named", given=False)
    kept = json.loads(json.dumps(members.dump()))
    other = MemberList(OWN)
    other.load(kept, 1000.0)
    assert [each[2] for each in shown(other)] == [False, False, True]
    assert shown(other)[0][0] == "named", "hosts from the settings are not stored"
    assert other.step(1000.0 + MISSES * 30.0) == [] and not other.is_changed


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": ["10.0.0.5:True"]},
        {"addresses": 5},
        {"id": "x"},
        {"slots": True},
        {"interval": 10**400},
        {"gone": 1},
        {"source": None},
        {"user": None},
        {"secret": None},
    ],
)
def test_what_cannot_have_been_kept_is_left_out_and_the_rest_is_not(wrong: dict[str, Any]) -> None:
    members = MemberList(OWN)
    announce(members)
    announce(members, id_=THIRD)
    members.join("gamma", given=False)
    kept: Any = json.loads(json.dumps(members.dump()))
    kept["members"][0] |= wrong
    kept["members"] += [5, {}]
    kept["joined"] += [5, "unix:/x", "a b"]
    other = MemberList(OWN)
    assert len(other.load(kept, 0.0)) == 6, "a reason for each"
    assert [key[0] for key in other.announced] == [THIRD] and list(other.joined) == ["gamma"]


@pytest.mark.parametrize("kept", [{}, {"members": 5, "joined": {}}, {"members": [{}] * (MOST_MEMBERS + 1)}])
def test_a_file_that_has_no_members_is_no_error(kept: dict[str, Any]) -> None:
    members = MemberList(OWN)
    assert members.load(kept, 0.0)
    assert shown(members) == []
