"""Classes that are found by name: accepted and refused ones, and substitutes."""

import enum
import importlib.util
import os
import subprocess
import sys
import types
from collections import namedtuple
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.errors import ProtocolError, UnavailableTypeError, UnreadableValueError, UnsupportedValueError
from pconnect.values import decoder, encoder, named_types
from tests.support.examples import examples
from tests.support.hostile import head_of, mark


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - another name of RED
    BLUE = "b"


class Odd(enum.IntFlag):
    ONE = 1
    TWO = 2
    BOTH = 3
    EIGHT = 8


class Strict(enum.Flag):
    A = enum.auto()
    B = enum.auto()

    @classmethod
    def _missing_(cls, value: object) -> Any:  # noqa: ARG003
        raise RuntimeError("a received value calls nothing of the class")


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Checked(Point):
    def __new__(cls, *_: object) -> Any:
        raise RuntimeError("a received value calls nothing of the class")


class Ending(Point):
    ended = False

    def __del__(self) -> None:
        Ending.ended = True


HERE = __name__


def transmit(value: object) -> Any:
    return decoder.decode(encoder.pack(value), 0).finish()


def received(code: int, *parts: object) -> Any:
    return decoder.decode(head_of(mark(code, *parts)), 0).finish()


@pytest.mark.parametrize("member", [Color.RED, Color.CRIMSON, Color.BLUE, Odd.BOTH, Odd(0), Odd(9), Strict.A])
def test_a_member_arrives_as_the_receivers_own(member: enum.Enum) -> None:
    assert transmit([member])[0] is member


@examples(20)
@given(st.integers(0, 11))
def test_any_flags_arrive(bits: int) -> None:
    if not bits & 4:
        assert transmit(Odd(bits)) is Odd(bits)


def test_bits_that_the_class_does_not_name_are_not_sent_and_not_taken() -> None:
    with pytest.raises(UnsupportedValueError, match=r"bits without a name: send int\(value\)"):
        encoder.encode(Odd(4))
    count = len(Odd._value2member_map_)
    for bits in (4, 2**63, -1, 1.0, True, None):
        with pytest.raises(UnavailableTypeError, match="same version of the class on both ends"):
            received(43, HERE, "Odd", bits)
    assert len(Odd._value2member_map_) == count  # none of it is stored


def test_several_flags_are_made_without_calling_the_class() -> None:
    both = received(43, HERE, "Strict", 3)
    assert type(both) is Strict and Strict.A in both and both.value == 3
    assert received(43, HERE, "Strict", 3) is both


def test_bits_are_not_a_member_of_an_enumeration_without_flags() -> None:
    with pytest.raises(UnavailableTypeError, match="the member 1 of the enumeration"):
        received(43, HERE, "Color", 1)


def test_a_named_tuple_arrives_as_one_of_the_receivers_class() -> None:
    point = transmit({"p": Point([1], Point(2))})["p"]
    assert type(point) is Point and type(point.y) is Point and point == ([1], (2, 0))


def test_the_way_to_a_part_that_is_refused_has_the_field() -> None:
    with pytest.raises(UnsupportedValueError, match=r"^value\[0\]\.y: cannot send"):
        encoder.encode([Point(1, object())])


def test_a_tuple_of_other_items_than_its_fields_is_refused() -> None:
    with pytest.raises(UnsupportedValueError, match="items other than its fields"):
        encoder.encode(tuple.__new__(Point, [1, 2, 3]))


def test_classes_with_invalid_field_names_are_refused() -> None:
    for fields in (["x"], ("x y",), ("x", "x"), ("class",), (1,), ("_x",)):
        kind = type("Odd", (tuple,), {"_fields": fields})
        with pytest.raises(UnsupportedValueError, match="convert it to tuple first"):
            encoder.encode(kind(fields))


def test_attributes_come_along_and_stand_beside_the_fields() -> None:
    value = tuple.__new__(Checked, (1, 2))
    vars(value)["unit"] = "m"
    result = transmit(value)
    assert type(result) is Checked and result == (1, 2) and vars(result) == {"unit": "m"}


# Classes that the receiver does not have.


def test_a_named_tuple_gets_a_substitute_class_and_returns_unchanged() -> None:
    there = named_type("far.away", "Outer.Fit", "slope _1")
    point = transmit(there(1.5, [2]))
    assert type(point) is not there and repr(point) == "Fit(slope=1.5, _1=[2])"
    assert point._asdict() == {"slope": 1.5, "_1": [2]} and point._replace(slope=3) == (3, [2])
    assert encoder.pack(point) == encoder.pack(there(1.5, [2]))
    assert type(transmit(there(1, 2))) is type(point)  # the same class for all of them


def test_a_substitute_keeps_attributes() -> None:
    received_one = received(44, "far.away", "Test", "p", {"df": 3}, 0.5)
    assert received_one == (0.5,) and received_one.df == 3 and received_one.p == 0.5


def test_a_class_with_other_fields_or_without_attributes_here_is_not_used() -> None:
    other = received(44, HERE, "Point", "x z", None, 1, 2)
    assert type(other) is not Point and other.z == 2
    assert type(received(44, HERE, "Point", "x y", {"unit": "m"}, 1, 2)) is not Point


def test_a_class_that_does_something_at_its_end_is_not_used() -> None:
    del_me = received(44, HERE, "Ending", "x y", None, 1, 2)
    assert type(del_me) is not Ending and del_me.y == 2
    del del_me
    assert not Ending.ended


def test_a_member_of_another_class_says_what_to_do() -> None:
    with pytest.raises(
        UnavailableTypeError, match=r"far\.away\.Color arrived.* import far\.away here before"
    ):
        received(43, "far.away", "Color", "RED")
    with pytest.raises(UnavailableTypeError, match=r"__main__\.Nothing arrived.* define it here"):
        received(43, "__main__", "Nothing", "RED")
    with pytest.raises(UnavailableTypeError, match="the member 'GREEN' of the enumeration"):
        received(43, HERE, "Color", "GREEN")


def test_the_number_of_substitute_classes_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_types, "_MAX_MADE", 2)
    monkeypatch.setattr(named_types, "_made", WeakValueDictionary())
    kept = [received(44, "far.away", f"P{k}", "x", None, k) for k in range(2)]
    with pytest.raises(UnavailableTypeError, match=r"too many such classes: import far\.away here"):
        received(44, "far.away", "P2", "x", None, 2)
    assert received(44, "far.away", "P1", "x", None, 5).x == 5
    assert [one.x for one in kept] == [0, 1]


def test_the_number_of_fields_of_a_substitute_class_is_limited() -> None:
    names = [f"_{index}" for index in range(257)]
    assert len(received(44, "far.away", "P", " ".join(names[:256]), None, *range(256))) == 256
    with pytest.raises(UnavailableTypeError, match="cannot substitute it"):
        received(44, "far.away", "P", " ".join(names), None, *range(257))
    with pytest.raises(UnavailableTypeError, match="cannot substitute it"):
        received(44, "far.away", "P", "x" * (2**14 + 1), None, 1)


# Received names run no code.


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        (HERE, "Point"),
        (HERE, "HERE"),
        ("os", "path.join"),
        ("os", ""),
    ],
)
def test_nothing_but_an_enumeration_is_taken_for_one(module: str, name: str) -> None:
    with pytest.raises(UnavailableTypeError):
        received(43, module, name, "x")


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "tuple"), ("os", "stat_result"), ("subprocess", "Popen"), ("os", "environ")],
)
def test_nothing_but_a_named_tuple_is_taken_for_one(module: str, name: str) -> None:
    made = received(44, module, name, "x", None, 1)
    assert (
        type(made).__base__ is tuple and made.x == 1 and type(made) not in vars(sys.modules[module]).values()
    )


@pytest.mark.parametrize("field", ["x=print(1)", "*x", "x,y", "x:=1", "if", "__class__", "x\n", "(x)", "é=1"])
def test_a_field_is_never_code(field: str) -> None:
    with pytest.raises(ProtocolError):
        received(44, "far.away", "P", field, None, 1)


def test_no_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text("import enum\nclass Color(enum.Enum):\n    RED = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnavailableTypeError, match="import evil_module here"):
        received(43, "evil_module", "Color", "RED")
    assert received(44, "evil_module", "Color", "x", None, 1).x == 1
    assert "evil_module" not in sys.modules


def test_a_module_that_waits_to_be_loaded_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "lazy_module.py"
    source.write_text("import enum\nclass Color(enum.Enum):\n    RED = 1\n")
    spec = importlib.util.spec_from_file_location("lazy_module", source)
    assert spec is not None and spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    spec.loader.exec_module(lazy)
    with pytest.raises(UnavailableTypeError):
        received(43, "lazy_module", "Color", "RED")
    assert "Color" not in object.__getattribute__(lazy, "__dict__")
    assert lazy.Color.RED  # when the user accesses it, it is loaded
    assert received(43, "lazy_module", "Color", "RED") is lazy.Color.RED


def test_stand_ins_in_modules_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class StandIn:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(f"asked for {name}")

    module = types.ModuleType("of_stand_ins")
    vars(module)["thing"] = StandIn()
    monkeypatch.setitem(sys.modules, "of_stand_ins", module)
    monkeypatch.setitem(sys.modules, "stand_in", StandIn())
    for where, name in (("of_stand_ins", "thing"), ("of_stand_ins", "thing.x"), ("stand_in", "x")):
        with pytest.raises(UnavailableTypeError):
            received(43, where, name, "RED")


def test_where_many_connections_are_served_they_are_not_made() -> None:
    for value in (Color.RED, Point(1)):
        with pytest.raises(UnreadableValueError, match="not allowed here"):
            decoder.decode(encoder.pack(value), 0).finish(at_once=True)


def test_what_can_be_pickled_instead_is_not_sent_by_name() -> None:
    for value in (Color.RED, Point(1)):
        with pytest.raises(UnsupportedValueError):
            encoder.encode([value], by_name=False)


# The classes of a program's main module, which the receiver may also run.


def test_a_class_of_main_is_that_of_the_receivers_main() -> None:
    source = f"""
import enum, sys
sys.path[:] = {sys.path!r}
from pconnect.values import decoder, encoder
class Color(enum.Enum):
    RED = 1
head = encoder.pack(Color.RED)
print(decoder.decode(head, 0).finish() is Color.RED, head.hex())
"""
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, env=os.environ
    )
    same, head = done.stdout.split()
    assert same == "True"
    with pytest.raises(UnavailableTypeError, match=r"__main__\.Color arrived"):
        decoder.decode(bytes.fromhex(head), 0).finish()


def named_type(module: str, name: str, fields: str) -> Any:
    """Return a class as another program has it."""
    made: Any = namedtuple("P", fields.split(), rename=True)  # type: ignore[misc]
    made.__module__, made.__qualname__, made.__name__ = module, name, name.rpartition(".")[2]
    return made
