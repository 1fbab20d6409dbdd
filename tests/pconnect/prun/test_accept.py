"""Conditions for nodes, as text."""

import ast
import contextlib
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ConfigurationError
from pconnect.prun.accept import Facts, parse

NODE: Facts = {"memory": 8 * 2**30, "cpus": 4, "load": 0.5, "slots": 2, "host": "alpha:4000", "node": 3}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("memory>=8G", True),
        ("memory>8G", False),
        ("memory > 8191M and memory<1T", True),
        ("memory==8388608k", True),
        ("memory>=8GiB", True),
        ("cpus>=4", True),
        ("not cpus>=4", False),
        ("cpus != 4 or load<1", True),
        ("cpus!=4 and load<1 or slots==2", True),
        ("cpus!=4 and (load<1 or slots==2)", False),
        ("not (cpus==4 and node==3)", False),
        ("not not node==3", True),
        ("host==alpha", True),
        ("host == 'alpha:4000'", True),
        ("host==alph", False),
        ("host!=beta", True),
        ("load<.5", None),
    ],
)
def test_a_text_means_what_it_says(text: str, holds: bool | None) -> None:
    if holds is None:
        with pytest.raises(ConfigurationError):
            parse(text)
    else:
        assert parse(text).holds(NODE) is holds
        assert bool(parse(text).unmet(NODE)) is not holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memry>8G", r"accept 'memry>8G', column 1: 'memry' .*did you mean memory\?"),
        ("cpus>4 and", "column 11: a condition is missing"),
        ("cpus>4 an load<1", "column 8: expected `and`, `or` or the end, not 'an'"),
        ("(cpus>4", r"column 8: `\)` is missing"),
        ("cpus>4)", r"column 7: expected .* not '\)'"),
        ("cpus=4", "column 5: after cpus, expected one of > .*; write =="),
        ("cpus 4", "column 6: after cpus, expected one of"),
        ("cpus>", "column 6: the value to compare cpus with is missing"),
        ("cpus>many", "column 6: 'many' is not a number"),
        ("memory>x", "column 8: 'x' is not a number, such as 8G"),
        ("memory>8", "column 8: '8' has no unit; write 8G"),
        ("cpus>8G", "column 6: '8G' has a unit, but cpus takes none; write 8"),
        ("host>alpha", "column 5: after host, expected one of == !="),
        ("cpus>4 ; x", "column 8: ';' is not allowed here"),
        ("__import__('os')", "column 1: '__import__' is not a property of nodes"),
        ("", "column 1: a condition is missing"),
        ("(" * 50, "column 21: more than 20 nested parentheses"),
        ("not " * 50, "column 81: more than 20"),
    ],
)
def test_an_error_points_at_the_column(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("memory>16G and cpus>8 and load<1", ["memory is 8.0G, not >16G", "cpus is 4, not >8"]),
        ("memory>16G or cpus>8", ["memory is 8.0G, not >16G", "cpus is 4, not >8"]),
        ("not (cpus==4 or load>9)", ["(cpus==4 or load>9) holds"]),
        ("host==beta", ["host is alpha:4000, not ==beta"]),
    ],
)
def test_reasons_say_what_a_node_has(text: str, reasons: list[str]) -> None:
    assert parse(text).unmet(NODE) == reasons


@pytest.mark.parametrize(
    "text", ["memory>1G", "not memory>1G", "memory>1G or cpus>9", "not (memory>1G or cpus>9)"]
)
def test_what_is_not_known_is_not_accepted(text: str) -> None:
    unknown = {**NODE, "memory": None}
    assert not parse(text).holds(unknown)
    assert "memory is unknown, not >1G" in parse(text).unmet(unknown)
    assert parse(f"{text} or cpus==4").holds(unknown) and not parse(f"{text} or cpus==4").unmet(unknown)


PARTS = st.tuples(
    st.sampled_from(["cpus", "node"]), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.integers(0, 5)
)
TEXTS = st.recursive(
    PARTS.map(lambda part: "{}{}{}".format(*part)),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map("".join),
        inner.map("not {}".format),
        inner.map("({})".format),
    ),
    max_leaves=8,
)
SIGNS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip


def value(tree: ast.expr) -> bool:
    """Evaluate the same text as Python does. The grammar is modelled on Python's."""
    match tree:
        case ast.BoolOp(op=op, values=values):
            return (all if isinstance(op, ast.And) else any)([value(each) for each in values])
        case ast.UnaryOp(operand=operand):
            return not value(operand)
        case ast.Compare(left=ast.Name(id=name), ops=[sign], comparators=[ast.Constant(value=number)]):
            return bool(SIGNS[type(sign)](NODE[name], number))
    raise AssertionError(tree)


@given(TEXTS)
def test_and_or_not_and_parentheses_are_those_of_python(text: str) -> None:
    assert parse(text).holds(NODE) is value(ast.parse(text, mode="eval").body)
    assert bool(parse(text).unmet(NODE)) is not parse(text).holds(NODE)


@given(st.text(alphabet="memorycpu<>=!()andornot 89GM'\"*.-;", max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        parse(text).holds(NODE)
