"""The individual form checks: accepted and refused values."""

import math

from pconnect.protocol.form_checks import dict_of, has, is_int, is_number, is_text, list_of


def test_numbers_are_in_their_bounds_and_no_bools() -> None:
    assert all(map(is_number, (0, 1, 1.5, math.inf)))
    assert not any(map(is_number, (-1, math.nan, True, 2**2000, "1", None)))
    assert is_number(3, most=3.0)
    assert not is_number(3.5, most=3.0)
    assert is_int(1, 1, 2)
    assert not any(is_int(value, 1, 2) for value in (0, 3, True))
    assert not is_int(1.0, 1, 2)
    assert not is_int("1", 1, 2)


def test_containers_have_items_of_one_form() -> None:
    assert list_of([], is_text)
    assert list_of(["x"], is_text)
    assert not any(list_of(value, is_text) for value in (["x", 1], ("x",), "x", None))
    assert dict_of({"x": 1}, is_text, is_int)
    odd: list[object] = [{1: 1}, {"x": "x"}, [], None]
    assert not any(dict_of(value, is_text, is_int) for value in odd)


def test_a_dict_has_all_that_is_needed_and_nothing_unknown() -> None:
    assert has({"x": 1}, {"x": is_int})
    assert has({"x": 1, "y": 2}, {"x": is_int}, {"y": is_int})
    assert not has({}, {"x": is_int})
    assert not has({"x": 1, "y": "z"}, {"x": is_int}, {"y": is_int})
    assert not has({"x": 1, "z": 1}, {"x": is_int})
    assert not has([], {})
