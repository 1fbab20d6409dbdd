"""Values of every type that can be sent, for all tests that send values, and the meaning of "arrived unchanged"."""

import datetime
import enum
import pathlib
import re
import signal
import socket
import struct
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pconnect.values.dtypes import describe_dtype
from tests.support.package_values import (
    ARROW,
    PANDAS,
    PANDAS_SCALARS,
    SCIPY,
    SPARSE,
    assert_same_package_value,
)

ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
STRUCTURED = np.dtype([("a", "<i2"), ("b", ">f8", (2, 3)), ("c", [("d", "S3"), ("e", "M8[ms]")])])
PADDED = np.dtype([("a", "i1"), ("b", "f8")], align=True)
OVERLAPPING = np.dtype({"names": ["x", "y"], "formats": ["<u4", "<u2"], "offsets": [0, 2], "itemsize": 12})
TITLED = np.dtype([(("the title", "a"), "f4"), ("b", "?")])
RECORD = np.dtype((np.record, [("a", "i4"), ("b", "U2")]))
FILL: Any = np.ones((), STRUCTURED)[()]
EMPTY_FIELD = np.dtype([("none", "S0"), ("one", "U1")])


class Fit(NamedTuple):
    """A named tuple whose values have defaults but cannot have attributes."""

    slope: float
    residuals: object = None


class Table:
    """The class around a class of rows."""

    class Row(namedtuple("Row", ["class", "a", "_x"], rename=True)):
        """A named tuple with attributes, whose invalid field names were replaced."""


def _row() -> Any:
    row = Table.Row(1, (2,), [3])
    vars(row)["unit"] = {"m": 2}
    return row


def _moved() -> Any:
    moved = OrderedDict(a=1, b=2, c=[3])
    moved.move_to_end("a")
    return moved


def nested(levels: int, wrap: Callable[[Any], object], inside: object = None) -> Any:
    """Nest a value in containers."""
    for _ in range(levels):
        inside = wrap(inside)
    return inside


PLAIN: list[tuple[str, object]] = [
    ("None", None),
    ("True", True),
    ("False", False),
    *(
        (f"int {n}", n)
        for n in (0, -1, 127, 2**31, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 3**999, -(3**999))
    ),
    *((f"float {x}", x) for x in (0.0, -0.0, 1.5, float("inf"), float("nan"), 5e-324)),
    ("float nan of other bits", struct.unpack("<d", b"\1\2\3\4\5\6\xf8\xff")[0]),
    ("complex", complex(-0.0, float("nan"))),
    ("str", "text, Grüße, 𝄞, \0"),
    ("str empty", ""),
    ("str surrogates", "\udc80 \ud800\udc00"),
    ("str long", "long " * 2000),
    ("bytes", b"\0\xff"),
    ("bytes empty", b""),
    ("bytes large", bytes(range(256)) * 100),
    ("bytearray", bytearray(b"abc")),
    ("bytearray empty", bytearray()),
    ("bytearray large", bytearray(range(256)) * 100),
    ("Ellipsis", ...),
    ("slice", slice(None, 3, -1)),
    ("slice of anything", slice("a", (1, [2]), np.float32(3))),
    ("range", range(2, 50, 3)),
    ("range large", range(-(10**30), 10**30, 10**25)),
    ("date", datetime.date(1, 1, 1)),
    ("time", datetime.time(23, 59, 59, 999999, fold=1)),
    ("time with zone", datetime.time(1, tzinfo=datetime.UTC)),
    ("datetime", datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("datetime with zone", datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZONE)),
    (
        "datetime with offset",
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(minutes=-90))),
    ),
    ("timedelta", datetime.timedelta(-3, 4, 5)),
    ("utc", datetime.UTC),
    ("timezone", datetime.timezone(datetime.timedelta(seconds=1, microseconds=1))),
    ("timezone with name", datetime.timezone(datetime.timedelta(hours=5), "five")),
    ("ZoneInfo", ZONE),
    *((f"Decimal {x}", Decimal(x)) for x in ("0E-30", "-1.50", "1E+999999", "sNaN12", "-Infinity", "-0")),
    ("Fraction", Fraction(-(7**50), 3)),
    ("UUID", uuid.UUID(int=2**127 + 5)),
    ("Counter", Counter("abracadabra")),
    ("Counter of anything", Counter({(1, 2): -1, None: 0.5})),
    ("OrderedDict", _moved()),
    ("defaultdict", defaultdict(list, {"a": [1], 2: []})),
    ("defaultdict of Counters", defaultdict(Counter, a=Counter("a"))),
    ("defaultdict without a default", defaultdict(None, {"a": 1})),
    ("deque", deque([1, (2,)])),
    ("deque of a length", deque([1, 2], 3)),
    ("namespace", types.SimpleNamespace(x=1, y={"a": np.float32(2)})),
    ("path", pathlib.Path("/tmp/Grüße \udc80/a.txt")),
    ("path here", pathlib.Path()),
    ("path pure", pathlib.PurePosixPath("//a/../b")),
    ("path of Windows", pathlib.PureWindowsPath(r"C:\a\b")),
]

# Values of classes that every node has imported.
NAMED: list[tuple[str, object]] = [
    ("enum", socket.AddressFamily.AF_UNIX),
    ("enum of text", uuid.SafeUUID.safe),
    ("flag", re.IGNORECASE),
    ("flags", re.IGNORECASE | re.MULTILINE),
    ("no flag", re.RegexFlag(0)),
    ("enums as keys", {signal.Signals.SIGINT: {signal.Handlers.SIG_DFL}}),
    # Values of classes that the engines do not have: the engines recreate them.
    ("named tuple", Fit(1.5, np.arange(3))),
    ("named tuple with attributes", _row()),
    ("named tuples", [Fit(k, {Fit(k)}) for k in range(3)]),
    ("named tuple large", Fit(2.0, np.arange(10000.0))),
]

SCALARS: list[tuple[str, object]] = [
    *((f"scalar {np.dtype(c).name} {c}", np.ones((), c)[()]) for c in "?bBhHiIlLqQefdgFDG"),
    ("float64 nan", np.float64("nan")),
    ("longdouble", np.longdouble(1) / 3),
    ("clongdouble", np.clongdouble(1j) / 3),
    ("datetime64", np.datetime64("2024-02-29T12", "h")),
    ("datetime64 NaT", np.datetime64("NaT")),
    ("datetime64 of 25 s", np.zeros((), "M8[25s]")[()]),
    ("timedelta64", np.timedelta64(-7, "us")),
    ("timedelta64 without unit", np.timedelta64(7)),
    ("str_", np.str_("Grüße\0")),
    ("bytes_", np.bytes_(b"a\0")),
    ("void", np.void(b"a\0b")),
    ("void empty", np.void(b"")),
    ("structured scalar", np.ones((), STRUCTURED)[()]),
    ("record", np.ones((), RECORD)[()]),
    ("masked", np.ma.masked),
]

_GRID = np.arange(24.0).reshape(2, 3, 4)
ARRAYS: list[tuple[str, object]] = [
    *((f"array {np.dtype(c).name} {c}", np.ones(3, c)) for c in "?bBhHiIlLqQefdgFDG"),
    *(
        (f"array {text}", np.ones((2, 2), text))
        for text in (">i2", ">f8", ">c8", ">f2", ">q", ">M8[D]", "<m8[7ns]")
    ),
    ("array 0-d", np.array(5.5)),
    ("array empty", np.zeros((0,))),
    ("array empty of three axes", np.zeros((3, 0, 2), "i2", order="F")),
    ("array C", _GRID),
    ("array Fortran", np.asfortranarray(_GRID)),
    ("array backwards", _GRID[::-1, :, ::-2]),
    ("array transposed", _GRID.transpose(1, 0, 2)),
    ("array broadcast", np.broadcast_to(np.arange(3.0), (4, 3))),
    ("array broadcast large", np.broadcast_to(np.float32(5), (90, 90))),
    ("array of floats that are none", np.array([0x7FF0000000000001, 0xFFF8000000000002], "u8").view("f8")),
    ("array large C", np.arange(10000.0).reshape(10, 1000)),
    ("array large Fortran", np.asfortranarray(np.arange(10000, dtype=">i4").reshape(10, 1000))),
    ("array large of dates", np.arange(5000).astype("M8[s]")),
    ("array large of long doubles", np.arange(5000).astype("g")),
    ("array large structured", np.ones((30, 30), STRUCTURED)),
    ("array str", np.array(["a", "", "Grüße"])),
    ("array bytes", np.array([b"a", b"\0b"], ">S7")),
    ("array str large", np.array(["𝄞" * 500] * 10, ">U600")),
    ("array void", np.array([b"abc", b"d"], "V3")),
    ("array V0", np.empty((2, 3), "V0")),
    ("array S0", np.zeros(3, EMPTY_FIELD)["none"]),
    ("array without fields", np.zeros(3, np.dtype([]))),
    ("array of 64 axes", np.zeros((1,) * 32)),
    *(
        (f"array {name}", np.ones((2, 2), dtype))
        for name, dtype in (
            ("structured", STRUCTURED),
            ("padded", PADDED),
            ("overlapping", OVERLAPPING),
            ("titled", TITLED),
            ("record", RECORD),
            ("empty field", EMPTY_FIELD),
        )
    ),
    ("masked array", np.ma.MaskedArray([1, 2, 3], [False, True, False])),
    ("masked array without mask", np.ma.MaskedArray([1.0, 2.0])),
    (
        "masked array with fill value",
        np.ma.MaskedArray([1.0, 2.0], [True, False], fill_value=-9, hard_mask=True),
    ),
    ("masked array of str", np.ma.MaskedArray(["ab", "c"], [False, True], fill_value="z")),
    ("masked array 0-d", np.ma.MaskedArray(3, True)),
    ("masked array large", np.ma.MaskedArray(np.ones((80, 90), order="F"), np.eye(80, 90, dtype=bool))),
    ("masked array of structured", np.ma.MaskedArray(np.ones(3, STRUCTURED), fill_value=FILL)),
    (
        "masked array of structured, hard",
        np.ma.MaskedArray([(1, 2.0), (3, 4.0)], [(True, False), (False, True)], PADDED, hard_mask=True),
    ),
    ("masked array of dates", np.ma.MaskedArray(np.arange(3).astype("M8[D]"), [True, False, False])),
]

OTHERS: list[tuple[str, object]] = [
    *(
        (f"dtype {i}", dtype)
        for i, dtype in enumerate(
            (
                np.dtype("f8"),
                np.dtype(">q"),
                np.dtype("g"),
                np.dtype("M8"),
                np.dtype("U0"),
                np.dtype(("i2", (3, 1))),
                STRUCTURED,
                PADDED,
                OVERLAPPING,
                TITLED,
                RECORD,
                EMPTY_FIELD,
            )
        )
    ),
    ("list", [1, [2, []], [[[]]]]),
    ("list long", list(range(5000))),
    ("tuple", (1, (2, ()), [3])),
    ("set", {1, "a", (2, frozenset({3})), None}),
    ("set empty", set()),
    ("frozenset", frozenset({frozenset({1}), b"2"})),
    ("dict", {"b": 1, "a": {"c": [2]}, "": {}}),
    (
        "dict of any keys",
        {
            1: "a",
            2.5: {"x": (1,)},
            (1, (2,)): "b",
            None: 0,
            b"k": 1,
            frozenset({1}): 2,
            2**70: 3,
            np.float32(9): 4,
            datetime.date(2024, 1, 1): 5,
        },
    ),
    ("dict large key", {b"k" * 5000: b"v" * 6000, "s": np.zeros(1000)}),
    (
        "everything nested",
        {
            "a": [(np.zeros((40, 40)), bytearray(5000)), {"b": {1: np.ones((99, 9), "f4", order="F")}}],
            "c": (b"x" * 4097, b"y" * 4096, [np.arange(3), 1j, ...]),
        },
    ),
    ("deep", eval("[" * 150 + "]" * 150)),
    (
        "deeper than a branch",
        nested(300, lambda inner: [inner, (1, {inner is None})], [np.full(600, 2.0), b"x" * 5000]),
    ),
]

VALUES: list[tuple[str, object]] = (
    PLAIN + NAMED + SCALARS + ARRAYS + OTHERS + SPARSE + SCIPY + ARROW + PANDAS_SCALARS + PANDAS
)


def assert_same(sent: Any, received: Any) -> None:
    """Fail unless `received` is `sent` after a transfer without any loss.

    This compares the exact types, dtype, byte order, shape, memory order, mask and fill value, the order of dicts,
    signs of zero and the bits of NaN. A received array must be writeable. An array that is not contiguous arrives in C
    order, so it is compared with a copy in that order.
    """
    assert type(received) is type(sent)
    _assert_same_members(sent, received)
    if assert_same_package_value(sent, received):
        return
    if isinstance(sent, np.ma.MaskedArray) and sent is not np.ma.masked:
        _assert_same_masked(sent, received)
    elif isinstance(sent, np.ndarray) and sent is not np.ma.masked:
        _assert_same_array(sent, received)
    elif isinstance(sent, np.str_ | np.bytes_):
        assert sent == received
    elif isinstance(sent, np.generic):
        _assert_same_array(np.asarray(sent), np.array(received))
    elif isinstance(sent, np.dtype):
        assert describe_dtype(sent) == describe_dtype(received)
        assert sent == received
    elif isinstance(sent, list | tuple | dict | set | frozenset | slice | deque | types.SimpleNamespace):
        _assert_same_container(sent, received)
    elif isinstance(sent, float):
        assert struct.pack("d", sent) == struct.pack("d", received)
    elif isinstance(sent, complex):
        assert_same([sent.real, sent.imag], [received.real, received.imag])
    elif isinstance(sent, bytes | bytearray | str):
        assert sent == received
    else:
        # repr shows the fold and zone of a datetime and the sign of Decimal("-0"), which == ignores.
        assert repr(sent) == repr(received)


def _assert_same_members(sent: Any, received: Any) -> None:
    """Compare the attributes of a container besides its items."""
    if isinstance(sent, enum.Enum):
        assert received is sent
    elif isinstance(sent, defaultdict):
        assert received.default_factory is sent.default_factory
    elif isinstance(sent, deque):
        assert received.maxlen == sent.maxlen
    elif isinstance(sent, tuple):
        assert_same(getattr(sent, "__dict__", None), getattr(received, "__dict__", None))


def _assert_same_container(sent: Any, received: Any) -> None:
    if isinstance(sent, slice):
        assert_same([sent.start, sent.stop, sent.step], [received.start, received.stop, received.step])
        return
    if isinstance(sent, types.SimpleNamespace):
        assert_same(vars(sent), vars(received))
        return
    assert len(sent) == len(received)
    if isinstance(sent, dict):
        assert_same(list(sent.items()), list(received.items()))
    elif isinstance(sent, set | frozenset):
        if sent == received:  # then each has its equal; equal values of different types have different reprs
            assert sorted(str(type(x)) for x in sent) == sorted(str(type(x)) for x in received)
        else:  # NaN
            assert_same(sorted(sent, key=_in_order), sorted(received, key=_in_order))
    else:
        for one, other in zip(sent, received, strict=True):
            assert_same(one, other)


def _in_order(value: object) -> str:
    """Return the repr of a value; for sets, it depends only on their items."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(_in_order, value))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_in_order, value))})"
    return repr(value)


def _assert_same_masked(sent: Any, received: Any) -> None:
    assert_same(sent.data, received.data)
    assert (np.ma.getmask(sent) is np.ma.nomask) == (np.ma.getmask(received) is np.ma.nomask)
    if np.ma.getmask(sent) is not np.ma.nomask:
        assert_same(np.ma.getmask(sent), np.ma.getmask(received))
    assert sent.hardmask == received.hardmask
    assert (sent._fill_value is None) == (received._fill_value is None)
    sent, received = sent.copy(), received.copy()  # reading the default fill value sets it
    _assert_same_items(np.asarray(sent.fill_value, sent.dtype), np.asarray(received.fill_value, sent.dtype))


def _assert_same_array(sent: npt.NDArray[Any], received: npt.NDArray[Any]) -> None:
    if received is sent:  # this node's own value, as from a collective call
        return
    assert describe_dtype(received.dtype) == describe_dtype(sent.dtype)
    assert received.dtype == sent.dtype
    assert received.shape == sent.shape
    assert received.flags.writeable
    if sent.itemsize == 0:  # no memory, so no order; and numpy copies "S0" to "S1"
        return
    if not (sent.flags.c_contiguous or sent.flags.f_contiguous):
        sent = sent.copy("C")
    assert received.flags.c_contiguous == sent.flags.c_contiguous
    assert received.flags.f_contiguous == sent.flags.f_contiguous
    _assert_same_items(sent, received)


def _assert_same_items(sent: npt.NDArray[Any], received: npt.NDArray[Any]) -> None:
    """Compare bytes, except padding between fields and at the end of long doubles."""
    if sent.dtype.names is not None:
        for name in sent.dtype.names:
            _assert_same_items(sent[name], received[name])
    elif sent.dtype.kind in "fc" and sent.dtype.char in "gG":
        for part in ("real", "imag"):
            one, other = getattr(sent, part), getattr(received, part)
            assert np.array_equal(one, other, equal_nan=True)
            assert np.array_equal(np.signbit(one), np.signbit(other))
    else:
        assert sent.tobytes() == received.tobytes()
