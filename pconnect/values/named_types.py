"""Enumerations, named tuples, dataclasses and C records: values of classes that both ends know by name.

A received name must not run code. So a class is looked up only in modules that this process has already imported, and
nothing is imported. The look-up reads dictionaries only, so it calls no properties and loads no lazy modules.
It only accepts classes of these kinds, and calls nothing that the class defines: an enumeration's member exists
already, a named tuple is filled like a plain tuple, and a dataclass through the dict of its object. Records, such as
`os.stat_result`, are made by Python's own code.

If the class of a named tuple does not exist here, or has other fields, a substitute class with the same name and fields
is created. The number of such classes is limited, because a few bytes on the wire make a class of thousands of bytes.
An enumeration has no substitute: a member that equals none of the receiver's would only look right.
"""

import dataclasses
import enum
import sys
from collections import namedtuple
from collections.abc import Callable
from keyword import iskeyword
from types import BuiltinFunctionType, ModuleType
from typing import Any, Final
from weakref import WeakValueDictionary

from pconnect.errors import ProtocolError, UnavailableTypeError, UnsupportedValueError
from pconnect.values.builtin_types import ValueType

__all__ = ["READERS", "find_entry"]

_MEMBER_CODE: Final = 43
_TUPLE_CODE: Final = 44
_DATACLASS_CODE: Final = 52
_RECORD_CODE: Final = 53
_MAX_NAME: Final = 500  # characters; modules and classes have names for people
_MAX_FIELDS: Final = 256  # of a substitute class
_MAX_FIELD_CHARACTERS: Final = 2**14  # of all fields together
_MAX_MADE: Final = 1000  # substitute classes in use

# Substitute classes, by module, name, fields, and whether their objects have other attributes.
_made: Final[WeakValueDictionary[tuple[str, str, str, bool], type]] = WeakValueDictionary()


def find_entry(kind: type) -> ValueType | None:
    """Return how to write the values of a class, if it is of one of these kinds.

    Raises `UnsupportedValueError` if it is an enumeration or a dataclass that no receiver could find.
    """
    if issubclass(type(kind), enum.EnumMeta):
        place = _findable_place(kind, "the member's name or value")
        return ValueType(_MEMBER_CODE, (kind,), lambda member: (*place, _member_key(member)), _read_member)
    if issubclass(kind, tuple) and (fields := _fields(kind)) is not None:
        names = ("__module__", "__qualname__", "_fields", "vars(", *fields)
        return ValueType(_TUPLE_CODE, (kind,), _tuple_writer(kind, fields), _read_tuple, names)
    if _is_record(kind):
        return ValueType(_RECORD_CODE, (kind,), _write_record, _read_record, ("__module__", "__qualname__"))
    if (fields := _dataclass_fields(kind)) is not None:
        place = _findable_place(kind, "dataclasses.asdict(value)")
        write = _dataclass_writer(kind, place, fields)
        return ValueType(
            _DATACLASS_CODE, (kind,), write, _read_dataclass, ("__module__", "__qualname__", "vars(")
        )
    return None


def _findable_place(kind: type, instead: str) -> tuple[str, str]:
    place = _place(kind)
    if "<" in place[1]:
        raise UnsupportedValueError(
            f"cannot send {kind}, which is defined inside a function, where no receiver can find it: define it in a "
            f"module, or send {instead}"
        )
    return place


def _place(kind: type) -> tuple[str, str]:
    module, name = kind.__module__, kind.__qualname__
    if type(module) is not str or max(len(module), len(name)) > _MAX_NAME:
        raise UnsupportedValueError(f"cannot send {kind}, because its module or name is invalid")
    return module, name


def _find_class(module: object, name: object) -> Any:
    """Return a class that this process has imported or defined, or ``None``."""
    if type(module) is not str or type(name) is not str or max(len(module), len(name)) > _MAX_NAME:
        raise ProtocolError("not the name of a class")
    found: Any = sys.modules.get(module)
    if not issubclass(type(found), ModuleType):
        return None
    # Not with `getattr` or `vars`, which would load a module that is loaded on first use.
    names = object.__getattribute__(found, "__dict__")
    for part in name.split("."):
        found = names.get(part)
        if not issubclass(type(found), type):  # `isinstance` would query a proxy object
            return None
        names = type.__getattribute__(found, "__dict__")
    return found


def _attribute(kind: type, name: str) -> Any:
    """Return the raw value of a class attribute, or ``None``."""
    for base in type.__getattribute__(kind, "__mro__"):
        names = type.__getattribute__(base, "__dict__")
        if name in names:
            return names[name]
    return None


# Members of enumerations


def _member_key(member: Any) -> object:
    """Return the name of a member, or the bits of a combination of flags."""
    kind = type(member)
    if member._name_ in _attribute(kind, "_member_map_"):
        return member._name_
    bits = member._value_
    if not _are_bits_of(kind, bits):
        raise UnsupportedValueError(
            f"cannot send a value of {kind} that has bits without a name: send int(value)"
        )
    return bits


def _are_bits_of(kind: Any, bits: object) -> bool:
    return (
        issubclass(kind, enum.Flag)
        and _attribute(kind, "_member_type_") in (object, int)
        and type(bits) is int
        and bits >= 0
        and bits & ~_attribute(kind, "_flag_mask_") == 0
    )


def _read_member(parts: list[Any]) -> object:
    module, name, key = parts
    kind = _find_class(module, name)
    if not issubclass(type(kind), enum.EnumMeta):
        raise UnavailableTypeError(
            f"a member of the enumeration {module}.{name} arrived, but this process does not have that class: "
            f"{_how_to_have(module)} here before you receive it, or let the sender send the member's name or value"
        )
    if type(key) is str and key in (members := _attribute(kind, "_member_map_")):
        return members[key]
    if type(key) is int and _are_bits_of(kind, key):
        known: object = _attribute(kind, "_value2member_map_").get(key)
        # The call that the enumeration itself would make for these bits, if it does not override it.
        return enum.Flag._missing_.__func__(kind, key) if known is None else known  # type: ignore[attr-defined]
    raise UnavailableTypeError(
        f"the member {key!r:.200} of the enumeration {module}.{name} arrived, but the class on this node does not "
        "have it: use the same version of the class on both ends"
    )


# Named tuples


def _fields(kind: type) -> tuple[str, ...] | None:
    """Return the names of the items of a named tuple, or ``None`` for other classes."""
    fields = _attribute(kind, "_fields")
    if type(fields) is not tuple or len(set(fields)) != len(fields):
        return None
    return fields if all(_is_field(field, index) for index, field in enumerate(fields)) else None


def _is_field(name: object, index: int) -> bool:
    if type(name) is not str:
        return False
    # The second form is from ``namedtuple(..., rename=True)``.
    return (name.isidentifier() and not iskeyword(name) and name[0] != "_") or name == f"_{index}"


def _tuple_writer(kind: type, fields: tuple[str, ...]) -> Callable[[Any], tuple[object, ...]]:
    place, names = _place(kind), " ".join(fields)

    def write(value: Any) -> tuple[object, ...]:
        items = tuple.__iter__(value)
        attributes = getattr(value, "__dict__", None) or None
        if tuple.__len__(value) != len(fields) or not (attributes is None or _are_attributes(attributes)):
            raise UnsupportedValueError(
                f"cannot send {kind} with items other than its fields, or with attributes that have no name; convert "
                "it to tuple first"
            )
        return (*place, names, attributes, *items)

    return write


def _read_tuple(parts: list[Any]) -> object:
    module, name, names, attributes, *items = parts
    if type(names) is not str or not (attributes is None or _are_attributes(attributes)):
        raise ProtocolError("wrong parts for a named tuple")
    fields = tuple(names.split(" ")) if names else ()
    if len(fields) != len(items):
        raise ProtocolError("the items of a named tuple do not match its fields")
    kind = _find_class(module, name)
    if kind is None or not _has(kind, fields, attributes):
        kind = _substitute(module, name, names, bool(attributes))
    made: Any = tuple.__new__(kind, items)
    if attributes:
        object.__getattribute__(made, "__dict__").update(attributes)
    return made


def _are_attributes(value: object) -> bool:
    return type(value) is dict and all(type(name) is str for name in value)


def _has(kind: type, fields: tuple[str, ...], attributes: object) -> bool:
    """Whether a class is a named tuple with these fields whose objects can have these attributes.

    A class with `__del__` is not accepted, because that would be called with received data.
    """
    return (
        issubclass(kind, tuple)
        and _fields(kind) == fields
        and _attribute(kind, "__del__") is None
        and (not attributes or type.__getattribute__(kind, "__dictoffset__") != 0)
    )


def _substitute(module: str, name: str, names: str, has_attributes: bool) -> Any:
    key = module, name, names, has_attributes
    known = _made.get(key)
    if known is not None:
        return known
    fields = names.split(" ") if names else []
    if len(fields) > _MAX_FIELDS or len(names) > _MAX_FIELD_CHARACTERS or len(_made) >= _MAX_MADE:
        raise UnavailableTypeError(
            f"a named tuple of the class {module}.{name} arrived, but this process does not have that class and cannot "
            f"substitute it, because it has too many fields, or there are too many such classes: import {module} here "
            "before you receive it"
        )
    try:
        # This replaces every field that is not an identifier, so no field can become code; see there.
        plain: Any = namedtuple("plain", fields, rename=True)  # type: ignore[misc]
    except SyntaxError as error:  # Python considers two names equal
        raise ProtocolError("a named tuple has two fields with the same name") from error
    if plain._fields != tuple(fields):
        raise ProtocolError("the fields of a named tuple are not valid names")
    made: Any = type("made", (plain,), {}) if has_attributes else plain
    made.__module__, made.__qualname__, made.__name__ = module, name, name.rpartition(".")[2]
    _made[key] = made
    return made


# Dataclasses


def _dataclass_fields(kind: type) -> tuple[str, ...] | None:
    """Return the names of a dataclass's fields, or ``None`` if its objects cannot be made without running its code."""
    fields = _attribute(kind, "__dataclass_fields__")
    if type(fields) is not dict or _attribute(kind, "__del__") is not None:
        return None
    if not all(type(name) is str and type(field) is dataclasses.Field for name, field in fields.items()):
        return None
    try:
        object.__new__(kind)
    except TypeError:  # it is abstract, or also a dict or another builtin type
        return None
    # Other entries are class variables or only arguments.
    return tuple(name for name, field in fields.items() if field._field_type is dataclasses._FIELD)  # type: ignore[attr-defined]


def _dataclass_writer(
    kind: type, place: tuple[str, str], fields: tuple[str, ...]
) -> Callable[[Any], tuple[object, ...]]:
    def write(value: Any) -> tuple[object, ...]:
        attributes: Any = getattr(value, "__dict__", None)
        if not (_are_attributes(attributes) and attributes.keys() >= set(fields)):
            raise UnsupportedValueError(
                f"cannot send {kind}, because its fields are not in the object's dict: send dataclasses.asdict(value)"
            )
        return (*place, dict(attributes))

    return write


def _read_dataclass(parts: list[Any]) -> object:
    module, name, attributes = parts
    if not _are_attributes(attributes):
        raise ProtocolError("wrong parts for a dataclass")
    kind = _find_class(module, name)
    fields = None if kind is None else _dataclass_fields(kind)
    if fields is None or set(fields) - attributes.keys() or not type.__getattribute__(kind, "__dictoffset__"):
        raise UnavailableTypeError(
            f"an object of the dataclass {module}.{name} arrived, but this process does not have that class, or has it "
            f"with other fields: {_how_to_have(module)} here before you receive it, or let the sender send "
            "dataclasses.asdict(value)"
        )
    made = object.__new__(kind)
    object.__getattribute__(made, "__dict__").update(attributes)
    return made


def _how_to_have(module: str) -> str:
    return "define it" if module == "__main__" else f"import {module}"


# C records, such as `os.stat_result` and `time.struct_time`


def _is_record(kind: type) -> bool:
    own = type.__getattribute__(kind, "__dict__")
    return (
        type(kind) is type
        and kind.__bases__ == (tuple,)
        and type(own.get("n_fields")) is int
        and type(own.get("n_sequence_fields")) is int
        and type(own.get("__new__")) is BuiltinFunctionType  # not a user's class
    )


def _write_record(value: Any) -> tuple[object, ...]:
    # Some fields have only names and no index.
    kind, (items, named) = value.__reduce__()
    return (*_place(kind), *items, *named.values())


def _read_record(parts: list[Any]) -> object:
    module, name, *items = parts
    kind = _find_class(module, name)
    if kind is None or not _is_record(kind) or kind.n_fields != len(items):
        raise UnavailableTypeError(
            f"a record of the class {module}.{name} arrived, but this process does not have that class, or has it with "
            f"other fields: {_how_to_have(module)} here before you receive it, or let the sender send tuple(value)"
        )
    made: object = kind(items)
    return made


READERS: Final = (
    ValueType(_DATACLASS_CODE, (), lambda _: (), _read_dataclass),
    ValueType(_RECORD_CODE, (), lambda _: (), _read_record),
    ValueType(_MEMBER_CODE, (), lambda _: (), _read_member),
    ValueType(_TUPLE_CODE, (), lambda _: (), _read_tuple),
)
