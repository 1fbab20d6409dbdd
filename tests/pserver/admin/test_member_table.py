from typing import Any

from pserver.admin.member_table import await_answer, joined_words, member_lines, member_table

BETA: dict[str, Any] = {
    "id": "00" * 16, "name": "beta", "addresses": ["10.0.0.2"], "slots": 4,
    "how": "joined", "heard": 61.5, "gone": False, "why": "",
}  # fmt: skip


def test_each_member_has_a_row() -> None:
    table = str(
        member_table([BETA | {"from": "10.9.9.9"}, BETA | {"id": "", "heard": None, "why": "refused"}])
    )
    assert "here" in table and "not reached" in table and "10.9.9.9" in table
    assert "0:01:01 ago" in table and "never" in table and "refused" in table


def test_the_status_names_some_and_counts_the_others() -> None:
    assert member_lines("alpha", []) == member_lines("alpha", None) == []
    assert member_lines("alpha", [BETA]) == ["The members of alpha: beta (10.0.0.2, here)"]
    assert member_lines("alpha", [BETA] * 12)[0].endswith("(10.0.0.2, here) and 2 more")
    assert "\x1b" not in member_lines("alpha", [BETA | {"name": "\x1b[31m"}])[0]


def test_joining_waits_for_what_comes_of_it() -> None:
    waiting = BETA | {"id": "", "why": "", "addresses": ["beta"]}
    told = iter([waiting, waiting, BETA | {"addresses": ["beta"]}])
    assert await_answer(lambda: {"members": [next(told)]}, "beta") == {"server": "beta"}
    assert await_answer(lambda: {"members": [waiting | {"why": "refused"}]}, "beta") == {"why": "refused"}
    assert await_answer(lambda: {"members": [waiting]}, "beta", 0.0) == {"why": "there is no answer yet"}
    assert "left" in str(await_answer(lambda: {"members": []}, "beta"))


def test_what_came_of_it_in_words() -> None:
    assert "has joined b, the server beta" in joined_words({"host": "b", "server": "beta"})
    assert "not joined b yet: refused" in joined_words({"host": "b", "why": "refused"})
    assert "announces itself" in joined_words({"host": "b"})
