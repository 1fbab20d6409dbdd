"""Values that become buffers, and their order."""

import numpy as np
import pytest

from pconnect.errors import UnsupportedValueError
from pconnect.values.builtin_types import TABLE
from pconnect.values.encoder import BRANCH_CODE, BUFFER_CODE, TreeWriter
from tests.support.values import nested

MARKS = {code: f"mark {code}" for code in (BUFFER_CODE, BRANCH_CODE, *(entry.code for entry in TABLE))}


def test_plain_values_are_left_alone() -> None:
    for value in (None, 5, "a", [1, 2.5], {"a": None, "b": [True]}, b"abc"):
        writer = TreeWriter(10, MARKS)
        assert writer.write(value) == value
        assert writer.table == [] and writer.buffers == []


def test_marks_begin_lists() -> None:
    writer = TreeWriter(10, MARKS)
    assert writer.write([(1, [{2}]), {3: 4j}]) == [
        ["mark 1", 1, [["mark 2", 2]]],
        ["mark 4", 3, ["mark 7", 0.0, 4.0]],
    ]


def test_buffers_are_in_the_order_of_the_tree() -> None:
    writer = TreeWriter(10, MARKS)
    tree = writer.write({b"k" * 11: np.ones((2, 3), "<i2", order="F"), "b": [bytearray(12), bytes(10)]})
    assert tree == ["mark 4", "mark 0", "mark 0", "b", ["mark 0", bytes(10)]]
    assert writer.table == [[2, 11], [1, "<i2", [2, 3]], [3, 12]]
    assert [buffer.nbytes for buffer in writer.buffers] == [11, 12, 12]


def test_without_limit_there_are_no_buffers() -> None:
    writer = TreeWriter(None, MARKS)
    assert writer.write([bytes(5000), np.ones(1, "|u1")]) == [bytes(5000), ["mark 32", 0, "|u1", [1], b"\1"]]
    assert writer.buffers == []


def test_the_way_is_found_through_parts_and_keys() -> None:
    with pytest.raises(UnsupportedValueError) as caught:
        TreeWriter(10, MARKS).write([0, {"a": ({1: slice(None, [object()])},)}])
    assert str(caught.value) == "value[1]['a'][0][1].stop[0]: cannot send <class 'object'>"


def test_what_is_deep_becomes_branches_in_the_order_of_reading() -> None:
    def below(*values: object) -> object:
        return nested(199, lambda inner: [inner], list(values))

    writer = TreeWriter(10, MARKS)
    tree = writer.write(below(below(b"first" * 3), 1, below(below(b"second" * 3), b"third" * 3)))
    for _ in range(199):
        (tree,) = tree  # type: ignore[misc]
    assert tree == ["mark 11", 1, "mark 11"]
    ends = []
    for branch in writer.branches:
        inside = branch
        while isinstance(inside, list) and len(inside) == 1 and isinstance(inside[0], list):
            (inside,) = inside
        ends.append(inside)
    assert ends == [["mark 0"], ["mark 0"], ["mark 11", "mark 0"]]
    assert [bytes(buffer) for buffer in writer.buffers] == [b"second" * 3, b"first" * 3, b"third" * 3]


def test_further_types_are_asked_for_by_type() -> None:
    asked: list[type] = []
    writer = TreeWriter(10, MARKS, lambda kind: asked.append(kind) or TABLE[0])  # type: ignore[func-returns-value]
    assert writer.write([range(3), memoryview(b"ab")]) == [["mark 9", 0, 3, 1], ["mark 1", 97, 98]]
    assert asked == [memoryview]
