"""The reported contents of a workspace."""

import sys
from typing import Any

import numpy as np

from pserver.services.inspection import describe_names, names_for_completion


class Odd:
    shape = "none"

    def __sizeof__(self) -> int:
        raise RuntimeError


def test_only_what_the_user_made_is_told() -> None:
    names = {"a": np.zeros((2, 3)), "n": (1, 2), "np": np, "sockets": 1, "_x": 1, "sys": sys, "odd": Odd()}
    rows = describe_names(names)
    assert [row[:3] for row in rows] == [
        ["a", "ndarray", "(2, 3)"],
        ["n", "tuple", "2"],
        ["odd", "Odd", None],
    ]
    assert rows[0][3] == 48 and rows[2][3] == 0


class Broken:
    @property
    def shape(self) -> object:
        raise OSError("its file is closed")

    nbytes = shape


def test_what_fails_when_it_is_asked_hides_nothing_else() -> None:
    names: dict[Any, object] = {"a": 1, "broken": Broken(), 5: "no name", None: 0}
    assert [row[:3] for row in describe_names(names)] == [["a", "int", None], ["broken", "Broken", None]]
    assert names_for_completion(names, "") == ["a", "broken"]
    assert names_for_completion(names, "broken.shape.") == []


def test_names_are_completed_through_dots() -> None:
    names = {"sys": sys, "array": np.zeros(3), "arrow": 1}
    assert names_for_completion(names, "arr") == ["array", "arrow"]
    assert names_for_completion(names, "array.sha") == ["array.shape"]
    assert names_for_completion(names, "sys.flags.opt") == ["sys.flags.optimize"]
    assert names_for_completion(names, "nothing.x") == []
    assert names_for_completion(names, "sys.nothing.x") == []
