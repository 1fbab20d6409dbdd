import json
from typing import Any

import pytest

from pserver.pool.member_list import MISSES, MOST_MEMBERS, MemberList
from srp_tools.errors import ConfigurationError

OWN, OTHER, THIRD = "00" * 16, "11" * 16, "22" * 16


def words(id_: str = OTHER, **more: object) -> dict[str, Any]:
    return {"id": id_, "name": "beta", "addresses": [], "slots": 2, "interval": 30, "at": 100.0, **more}


def announce(members: MemberList, now: float = 0.0, source: str = "10.0.0.2", **more: Any) -> bool:
    return members.announce(words(**more), source, source, now)[1]


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
    announce(members, source="10.0.0.66", addresses=["10.0.0.67"])  # under the same id
    assert members.leave(words(), "10.0.0.66") is not None
    for wrong in (
        {"name": "\0"},
        {"addresses": ["x"] * 10**6},
        {"interval": "often"},
        {"interval": 0},
        {"interval": 10**400},
        {"at": None},
        {"at": 10**400},
    ):
        with pytest.raises(ConfigurationError):
            announce(members, **wrong)
    assert members.leave(words(THIRD), "10.0.0.2") is None
    assert shown(members) == before


def test_what_was_sent_before_an_announcement_does_not_end_it() -> None:
    members = MemberList(OWN)
    announce(members, at=100.0)
    assert members.leave(words(at=99.0), "10.0.0.2") is None
    assert members.leave(words(at=101.0), "10.0.0.2") is not None
    assert members.leave({}, "10.0.0.2") is None


def test_a_full_list_takes_a_new_member_for_one_that_is_gone() -> None:
    members = MemberList(OWN)
    for number in range(MOST_MEMBERS):
        announce(members, 1000.0 if number else 0.0, id_=f"{number + 1:032x}")
    with pytest.raises(ConfigurationError, match="has 1000 members"):
        announce(members, 1000.0, id_="ff" * 16)
    assert not announce(members, 1000.0, id_=f"{5:032x}"), "those that are known come again"
    members.step(1000.0)
    announce(members, 1000.0, id_="ff" * 16)
    assert len(shown(members)) == MOST_MEMBERS


def test_many_members_are_asked_to_come_less_often() -> None:
    members = MemberList(OWN)
    intervals = [
        members.announce(words(f"{n + 1:032x}"), "10.0.0.2", "a", 0.0)[0].interval for n in range(500)
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
        assert members.miss("gamma:12600", "refused") == (count == 0)
    assert shown(members)[0][2] is True
    assert members.answer("gamma:12600", answer, 3.0), "it is back"
    assert shown(members)[0][2] is False
    assert members.part("gamma:12600") and not members.part("gamma:12600")
    assert not members.answer("gamma:12600", answer, 4.0) and not members.miss("gamma:12600", "")


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
    assert shown(other)[0][0] == "named", "one of the settings is there when these are read"
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
