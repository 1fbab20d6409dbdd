"""Compiling the source text of commands."""

import linecache

import pytest

from pconnect.one_process.source_code import compile_source


@pytest.mark.parametrize(
    ("source", "wants_value", "value"),
    [("x = 1\nx + 1", True, 2), ("x = 1\nx + 1", False, None), ("x = 1", True, None), ("", True, None)],
)
def test_the_value_of_a_last_expression(source: str, *, wants_value: bool, value: object) -> None:
    names: dict[str, object] = {}
    statements, expression = compile_source(source, "<some command>", wants_value=wants_value)
    exec(statements, names)
    assert (None if expression is None else eval(expression, names)) == value


def test_lines_are_kept_for_tracebacks() -> None:
    compile_source("a = 1\nb = 2", "<another command>", wants_value=False)
    assert linecache.getline("<another command>", 2) == "b = 2\n"


def test_invalid_source_leaves_nothing_behind() -> None:
    with pytest.raises(SyntaxError):
        compile_source("a =", "<a third command>", wants_value=True)
    assert linecache.getline("<a third command>", 1) == ""
