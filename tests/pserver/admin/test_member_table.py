from typing import Any

from pserver.admin.member_table import member_lines, member_table, state_of

BETA: dict[str, Any] = {
    "id": "00" * 16, "name": "beta", "addresses": ["10.0.0.2"], "slots": 4,
    "how": "joined", "heard": 61.5, "gone": False, "why": "",
}  # fmt: skip


def test_each_member_has_a_row() -> None:
    table = str(member_table([BETA, BETA | {"id": "", "heard": None, "why": "refused"}]))
    assert "0:01:01 ago" in table and "never" in table and "refused" in table


def test_states() -> None:
    assert state_of(BETA) == "here"
    assert state_of(BETA | {"gone": True}) == "gone"
    assert state_of(BETA | {"id": ""}) == state_of(BETA | {"why": "refused"}) == "not reached"


def test_the_status_names_some_and_counts_the_others() -> None:
    assert member_lines("alpha", []) == member_lines("alpha", None) == []
    assert member_lines("alpha", [BETA]) == ["The members of alpha: beta (10.0.0.2, here)"]
    assert member_lines("alpha", [BETA] * 12)[0].endswith("(10.0.0.2, here) and 2 more")
    assert "\x1b" not in member_lines("alpha", [BETA | {"name": "\x1b[31m"}])[0]
