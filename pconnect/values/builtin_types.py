"""The table of types that are sent as a few parts of other types: dates, fractions, tuples, numpy scalars, ...

Each type has an entry that defines how to take a value apart and how to put it together again. On the wire, the parts
follow the number of the entry (see `pconnect.values.encoder`). So a value can contain any others, and no received name
is ever looked up. The arguments of `read` come from the peer: it checks the types of the parts, and may leave further
checks to the constructor, because `pconnect.values.decoder` turns its errors into `ProtocolError`.

The numbers are part of the protocol: they never change, and are never reused.
"""

import datetime
import decimal
import fractions
import pathlib
import types
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import numpy as np

from pconnect.errors import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values import dtypes
from pconnect.values.padding import bytes_of_scalar, clear_padding
from srp_tools.packages import own_imports

# Types that msgpack itself preserves exactly; for int, up to 64 bits.
ATOMS: Final = frozenset({type(None), bool, int, float, str})


@dataclass(frozen=True, slots=True, eq=False)
class ValueType:
    """How to take the values of a type apart and put them together again."""

    code: int  #: number on the wire, 0 to 127
    types: tuple[type, ...]  #: the exact types that are written with this entry, usually one
    write: Callable[[Any], Collection[object]]  #: from a value to its parts
    read: Callable[[list[Any]], object]  #: from the list of received parts to the value
    #: Names of the parts as attributes, for paths in error messages. ``"f("`` means that the part is the result of a
    #: function. Empty for containers.
    names: tuple[str, ...] = ()


def _container(code: int, kind: type, read: Callable[[list[Any]], object] | None = None) -> ValueType:
    return ValueType(code, (kind,), list, read or kind)


def _record(
    code: int, kind: type, attributes: str, takes: tuple[type, ...], make: Callable[..., object] | None = None
) -> ValueType:
    """Describe a type whose parts are attributes. `object` in `takes` leaves the check to `make`."""
    names = tuple(attributes.split())
    get = attrgetter(*names)
    build = make or kind

    def read(parts: list[Any]) -> object:
        if len(parts) != len(takes) or any(
            type(part) is not take is not object for part, take in zip(parts, takes, strict=True)
        ):
            raise ProtocolError(f"wrong parts for {kind.__name__}")
        return build(*parts)

    return ValueType(code, (kind,), get if len(names) > 1 else lambda value: (get(value),), read, names)


def _text(code: int, kind: type, plain: Callable[[Any], object] = str, takes: type = str) -> ValueType:
    """Describe a type that can be converted to a str (or another plain value) and back without loss."""

    def read(parts: list[Any]) -> object:
        return kind(_only(parts, takes, kind))

    return ValueType(code, (kind,), lambda value: (plain(value),), read)


def _mapping(code: int, kind: type) -> ValueType:
    """Describe a dict class that has only items."""

    def read(parts: list[Any]) -> object:
        return kind(_only(parts, dict, kind))

    return ValueType(code, (kind,), lambda value: (dict(value),), read, ("dict(",))


def _only(parts: list[Any], takes: type, kind: type) -> Any:
    if len(parts) != 1 or type(parts[0]) is not takes:
        raise ProtocolError(f"wrong parts for {kind.__name__}")
    return parts[0]


def _constant(code: int, value: object) -> ValueType:
    def read(parts: list[Any]) -> object:
        if parts:
            raise ProtocolError("a constant has no parts")
        return value

    return ValueType(code, (type(value),), lambda _: (), read)


def make_named(makers: Mapping[str, Callable[..., Any]], parts: list[Any], what: str) -> Any:
    """Call the maker named by the first part with the other parts. Convert errors of other packages to ours."""
    match parts:
        case [str() as name, *rest] if name in makers:
            try:
                return makers[name](*rest)
            except ProtocolError:
                raise
            except Exception as error:  # unsuitable parts; the message is that package's
                text = f"wrong parts for {name}: {type(error).__name__}: {error!s:.200}"
                raise ProtocolError(text) from error
    raise ProtocolError(f"wrong parts for {what}")


# Possible factories of a defaultdict. Functions of the user are excluded, because they would be code.
_FACTORIES: Final = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, Counter,
                 OrderedDict, deque)
}  # fmt: skip


def _write_defaultdict(value: defaultdict[Any, Any]) -> tuple[object, ...]:
    factory: Any = value.default_factory
    if factory is None:
        return None, dict(value)
    for name, kind in _FACTORIES.items():
        if factory is kind:
            return name, dict(value)
    raise UnsupportedValueError(
        "cannot send a defaultdict whose default_factory is not a builtin type: set default_factory = None or convert "
        "it to dict first"
    )


def _read_defaultdict(parts: list[Any]) -> object:
    name, items = parts
    if type(items) is not dict:
        raise ProtocolError("wrong parts for defaultdict")
    return defaultdict(None if name is None else _FACTORIES[name], items)


def _read_deque(parts: list[Any]) -> object:
    limit, items = parts
    if type(items) is not list or (limit is not None and (type(limit) is not int or limit < len(items))):
        raise ProtocolError("wrong parts for deque")
    return deque(items, limit)


def _read_namespace(parts: list[Any]) -> object:
    return types.SimpleNamespace(**_only(parts, dict, types.SimpleNamespace))


_PATHS: Final[dict[str, type[pathlib.PurePath]]] = {
    kind.__name__: kind
    for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
}


def _read_path(parts: list[Any]) -> object:
    name, text = parts
    if type(text) is not str:
        raise ProtocolError("wrong parts for a path")
    kind = _PATHS[name]
    # A Path can be made only on its own system; on another system it becomes a pure path.
    if issubclass(kind, pathlib.Path) and kind is not type(pathlib.Path()):
        kind = _PATHS[f"Pure{name}"]
    return kind(text)


def _read_int(parts: list[Any]) -> object:
    (data,) = parts
    if type(data) is not bytes:
        raise ProtocolError("wrong parts for int")
    return int.from_bytes(data, "little", signed=True)


def _write_timezone(zone: datetime.timezone) -> tuple[object, ...]:
    offset, name = zone.utcoffset(None), zone.tzname(None)
    # A name that only repeats the offset is not sent; the receiver gets the same zone without it.
    return (offset,) if name == datetime.timezone(offset).tzname(None) else (offset, name)


def _read_timezone(parts: list[Any]) -> object:
    if [type(part) for part in parts] not in ([datetime.timedelta], [datetime.timedelta, str]):
        raise ProtocolError("wrong parts for timezone")
    return datetime.timezone(*parts)


def _write_zone_info(zone: zoneinfo.ZoneInfo) -> tuple[str]:
    if zone.key is None:
        raise UnsupportedValueError(
            "cannot send a ZoneInfo without a key, because the receiver could not find the zone"
        )
    return (zone.key,)


def _read_zone_info(parts: list[Any]) -> object:
    (key,) = parts
    if type(key) is not str:
        raise ProtocolError("wrong parts for ZoneInfo")
    try:
        with own_imports():  # the system may lack a zone that a package has
            return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise UnavailableTypeError(
            f"a value with the time zone {key[:80]!r} arrived, but this node does not have it: run pip install tzdata "
            "here"
        ) from error
    # A key may also name a folder, or a file that is not a zone. ZoneInfo refuses absolute keys and "..".
    except (LookupError, ValueError, OSError) as error:
        raise ProtocolError(f"{key[:80]!r} is not a time zone") from error


# Reducing a fraction takes quadratic time in one uninterruptible step: a sixth of a second at this size.
_MAX_FRACTION_BITS: Final = 2**18


def _write_fraction(value: fractions.Fraction) -> tuple[int, int]:
    parts = value.numerator, value.denominator
    if not _is_short_fraction(parts):
        raise UnsupportedValueError(
            f"cannot send a Fraction with more than {_MAX_FRACTION_BITS} bits above or below: send both as int"
        )
    return parts


def _read_fraction(parts: list[Any]) -> object:
    if [type(part) for part in parts] != [int, int] or not _is_short_fraction(parts):
        raise ProtocolError("wrong parts for Fraction")
    return fractions.Fraction(*parts)


def _is_short_fraction(parts: Iterable[int]) -> bool:
    return all(part.bit_length() <= _MAX_FRACTION_BITS for part in parts)


def _write_array(array: np.ndarray[Any, Any]) -> tuple[object, ...]:
    description = dtypes.describe_dtype(array.dtype)
    order, array = dtypes.contiguous(array)
    # numpy would copy each item of "S0" as one character.
    return (order, description, list(array.shape), array.tobytes("A") if array.nbytes else b"")


def _read_array(parts: list[Any]) -> object:
    order, description, shape, data = parts
    dtype = dtypes.restore_dtype(description)
    if type(order) is not int or type(data) is not bytes or dtypes.byte_count(dtype, shape) != len(data):
        raise ProtocolError("the size of an array does not match its data")
    return dtypes.filled(dtype, shape, order, data)


def _read_scalar(parts: list[Any]) -> object:
    description, data = parts
    return _read_array([dtypes.C_ORDER, description, [], data])[()]  # type: ignore[index]


def _write_masked(array: Any) -> tuple[object, ...]:
    # An array without its own fill value (`_fill_value` is None; the public property would set it) uses the default of
    # its dtype, even after `astype`. The receiver's array must do the same.
    fill = None if array._fill_value is None else np.array(array.fill_value, array.dtype)
    mask = None if np.ma.getmask(array) is np.ma.nomask else array.mask
    return (array.data, mask, fill, array.hardmask)


def _read_masked(parts: list[Any]) -> object:
    data, mask, fill, hard = parts
    if type(data) is not np.ndarray or type(hard) is not bool:
        raise ProtocolError("wrong parts for MaskedArray")
    mask_dtype = np.ma.make_mask_descr(data.dtype)
    # For a structured dtype without a mask, numpy allocates one, with as many items as the peer claims.
    if mask is None and mask_dtype.names is not None:
        raise ProtocolError("a structured MaskedArray needs a mask")
    for part, dtype, shape in ((mask, mask_dtype, data.shape), (fill, data.dtype, ())):
        if part is not None and (type(part) is not np.ndarray or part.dtype != dtype or part.shape != shape):
            raise ProtocolError("mask or fill value do not match the data of a MaskedArray")
    made: Any = np.ma.MaskedArray(
        data,
        np.ma.nomask if mask is None else mask,
        fill_value=None if fill is None else fill[()],
        hard_mask=hard,
    )
    if fill is not None:
        clear_padding(made._fill_value)
    return made


def _read_dtype(parts: list[Any]) -> object:
    (description,) = parts
    return dtypes.restore_dtype(description)


# `encoder` uses these by name, because it decides what goes into the head and what into buffers.
DICT: Final = ValueType(4, (), list, lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)))
BYTEARRAY: Final = _text(5, bytearray, bytes, bytes)
LARGE_INT: Final = ValueType(
    6, (), lambda value: (value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True),), _read_int
)
ARRAY: Final = ValueType(32, (), _write_array, _read_array)

TABLE: Final[tuple[ValueType, ...]] = (
    # 0 marks a buffer of the message, and 11 a branch of its tree, see `encoder`.
    _container(1, tuple),
    _container(2, set),
    _container(3, frozenset),
    DICT,
    BYTEARRAY,
    LARGE_INT,
    _record(7, complex, "real imag", (float, float)),
    _record(8, slice, "start stop step", (object, object, object)),
    _record(9, range, "start stop step", (int, int, int)),
    _constant(10, ...),
    _mapping(12, Counter),
    _mapping(13, OrderedDict),
    ValueType(14, (defaultdict,), _write_defaultdict, _read_defaultdict, ("default_factory", "dict(")),
    ValueType(15, (deque,), lambda value: (value.maxlen, list(value)), _read_deque, ("maxlen", "list(")),
    _record(16, datetime.date, "year month day", (int, int, int)),
    _record(17, datetime.time, "hour minute second microsecond tzinfo fold",
            (int, int, int, int, object, int), lambda *parts: datetime.time(*parts[:-1], fold=parts[-1])),
    _record(18, datetime.datetime, "year month day hour minute second microsecond tzinfo fold",
            (int, int, int, int, int, int, int, object, int),
            lambda *parts: datetime.datetime(*parts[:-1], fold=parts[-1])),
    _record(19, datetime.timedelta, "days seconds microseconds", (int, int, int)),
    ValueType(20, (datetime.timezone,), _write_timezone, _read_timezone),
    ValueType(21, (zoneinfo.ZoneInfo,), _write_zone_info, _read_zone_info),
    _text(22, decimal.Decimal),
    ValueType(23, (fractions.Fraction,), _write_fraction, _read_fraction, ("numerator", "denominator")),
    _record(24, uuid.UUID, "bytes", (bytes,), lambda data: uuid.UUID(bytes=data)),
    ValueType(25, (types.SimpleNamespace,), lambda value: (vars(value),), _read_namespace, ("vars(",)),
    ValueType(26, (*_PATHS.values(),), lambda value: (type(value).__name__, str(value)), _read_path),
    ARRAY,
    ValueType(33, dtypes.NUMPY_SCALAR_TYPES,
              lambda value: (dtypes.describe_dtype(value.dtype), bytes_of_scalar(value)), _read_scalar),
    # Not as numpy scalars of their dtypes, which would lose trailing zero characters.
    _text(34, np.str_, str.__str__),
    _text(35, np.bytes_, bytes, bytes),
    ValueType(36, (np.ma.MaskedArray,), _write_masked, _read_masked,
              ("data", "mask", "fill_value", "hardmask")),
    _constant(37, np.ma.masked),
    ValueType(38, (*{type(np.dtype(c)) for c in np.typecodes["All"]},),
              lambda dtype: (dtypes.describe_dtype(dtype),), _read_dtype),
    # 40 to 42, 45 and 46 are in `optional_types`, 43 and 44 in `named_types`, 64 in `registry`.
)  # fmt: skip
#: The entry with which the values of a type are written.
BY_TYPE: Final = {kind: entry for entry in TABLE for kind in entry.types}
#: All types that need neither packages nor registration. `encoder` writes those in the middle of the list itself.
BUILTIN: Final = frozenset({*ATOMS, list, dict, bytes, bytearray, np.ndarray, *BY_TYPE})
