import os

import pytest

from pserver.system import own_variables
from pserver.system.own_variables import environment_of_programs, note_variable, set_variable


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_variables, "_set", {})
    monkeypatch.setenv("GIVEN", "before")
    monkeypatch.setenv("NEW", "")
    monkeypatch.delenv("NEW")


def test_programs_get_what_there_was_before() -> None:
    set_variable("GIVEN", "ours")
    set_variable("GIVEN", "ours again")
    set_variable("NEW", "ours")
    assert (os.environ["GIVEN"], os.environ["NEW"]) == ("ours again", "ours")
    assert environment_of_programs()[b"GIVEN"] == b"before"
    assert b"NEW" not in environment_of_programs()


def test_what_a_user_has_set_since_is_the_users() -> None:
    set_variable("NEW", "ours")
    os.environ["NEW"] = "the user's"
    assert environment_of_programs()[b"NEW"] == b"the user's"


def test_what_a_library_has_set_is_as_if_we_had() -> None:
    os.environ["NEW"] = "a library's"
    note_variable("NEW", None)
    note_variable("GIVEN", "before")
    assert b"NEW" not in environment_of_programs()
    assert environment_of_programs()[b"GIVEN"] == b"before"
