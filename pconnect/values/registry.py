"""Types that users register, so that their values can be sent.

Such a value travels as a name and one value of supported types. The receiver makes it with the function that is
registered under that name *in its own process*. A received name is only looked up among those, so nothing is imported,
and the receiver decides which functions may be called.

The registry is the only mutable module state in this package. Like the registry of `copyreg`, it applies to a process,
because classes do as well: a class name means the same in all networks of a process, and an engine registers types in
its commands, which do not have the network's objects. Entries are only replaced on request, so no part of a program can
silently change the values that another part receives.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from pconnect.errors import (
    ConfigurationError,
    ProtocolError,
    UnavailableTypeError,
    UnreadableValueError,
    UnsupportedValueError,
)
from pconnect.values import named_types, optional_types
from pconnect.values.builtin_types import BUILTIN, ValueType

__all__ = ["READER", "find_entry", "find_unnamed", "register_type"]

T = TypeVar("T")

_CODE: Final = 64
_MAX_NAME: Final = 100  # characters; a name is for people, and precedes every value

_entries: Final[dict[type, ValueType]] = {}
_makers: Final[dict[str, tuple[type, Callable[[Any], object]]]] = {}


def register_type(
    kind: type[T],
    name: str,
    to_value: Callable[[T], object],
    from_value: Callable[[Any], T],
    *,
    replace: bool = False,
) -> None:
    """Register a class, so that its values can be sent and received by this process.

    Every node that sends or receives such values must first register the class under the same name. Only values of
    exactly this class are sent, not those of subclasses.

    Parameters
    ----------
    kind
        The class. It must not be a type that can be sent already, nor an abstract class, because no value has it as its
        exact type.
    name
        The name on the wire: 1 to 100 printable characters. A name like ``"package.Class"`` avoids collisions.
    to_value
        Called with an object; returns any supported value, which may contain other registered types.
    from_value
        Called by `precv` on the receiver with that value; returns the object. The value comes from another machine:
        check everything on which your class relies, and do not execute or import anything that it names.
    replace
        Replace a previous registration of this name or class, for example when a notebook's cell is run again.

    Raises
    ------
    ConfigurationError
        `kind` is not a class or can be sent already, `name` is invalid, or one of them is already registered. Nothing
        has changed.

    Notes
    -----
    If `to_value` raises an exception, `psend` raises `UnsupportedValueError`, and nothing was sent. If `from_value`
    raises one, `precv` raises `UnreadableValueError` with that exception as its cause. If the receiver has not
    registered the name, `precv` raises `UnavailableTypeError`. In each case the connection remains usable.

    Examples
    --------
    >>> from pconnect import local_network, precv, psend, register_type, reval
    >>> class Polynomial:
    ...     def __init__(self, coefficients):
    ...         self.coefficients = coefficients
    >>> register_type(Polynomial, "example.Polynomial", lambda p: p.coefficients, Polynomial)
    >>> with local_network(1) as net:
    ...     command = reval('''
    ...         from pconnect import register_type
    ...         class Polynomial:
    ...             def __init__(self, coefficients):
    ...                 self.coefficients = coefficients
    ...         register_type(Polynomial, "example.Polynomial", lambda p: p.coefficients, Polynomial)
    ...         p = precv(sockets[0])
    ...         psend(Polynomial([2 * c for c in p.coefficients]), sockets[0])
    ...     ''', net)
    ...     psend(Polynomial([1.0, 0.5]), net)
    ...     precv(net[1]).coefficients
    [2.0, 1.0]
    """
    if not isinstance(kind, type):
        raise ConfigurationError(f"register_type: {kind!r} is not a class")
    if kind in BUILTIN or optional_types.is_of_package(kind):
        raise ConfigurationError(f"register_type: {kind} can be sent already, and cannot be replaced")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise ConfigurationError(
            f"register_type: a name must have 1 to {_MAX_NAME} printable characters, unlike {name!r:.200}"
        )
    if not replace and name in _makers:
        raise ConfigurationError(
            f"register_type: the name {name!r} is registered for {_makers[name][0]}; pass replace=True to replace it"
        )
    if not replace and kind in _entries:
        raise ConfigurationError(
            f"register_type: {kind} is already registered; pass replace=True to replace it"
        )
    for other in [other for other, (known, _) in _makers.items() if other == name or known is kind]:
        _entries.pop(_makers.pop(other)[0])
    _makers[name] = (kind, from_value)
    _entries[kind] = _entry(kind, name, to_value)


def _entry(kind: type, name: str, to_value: Callable[[Any], object]) -> ValueType:
    def write(value: object) -> tuple[object, ...]:
        try:
            return name, to_value(value)
        except Exception as error:
            raise UnsupportedValueError(
                f"cannot send {kind}: its to_value raised {type(error).__name__}: {error}"
            ) from error

    return ValueType(_CODE, (kind,), write, _read, ("name", f"to_value of {name!r}("))


def find_entry(kind: type) -> ValueType | None:
    """Return how to write values of a type that is not builtin, or ``None``. Raises the errors of `optional_types`."""
    return find_unnamed(kind) or named_types.find_entry(kind)


def find_unnamed(kind: type) -> ValueType | None:
    """Like `find_entry`, but without the types that receivers find by class name."""
    return _entries.get(kind) or optional_types.find_entry(kind)


def _read(parts: list[Any]) -> object:
    if len(parts) != 2 or type(parts[0]) is not str:
        raise ProtocolError("wrong parts for a registered type")
    name, value = parts
    if name not in _makers:
        raise UnavailableTypeError(
            f"a value of the registered type {name[:_MAX_NAME]!r} arrived, but this name is not registered on this "
            "node: call pconnect.register_type here before you receive it"
        )
    try:
        return _makers[name][1](value)
    except Exception as error:
        raise UnreadableValueError(
            f"a value of the registered type {name!r} arrived, but its from_value raised "
            f"{type(error).__name__}: {error}"
        ) from error


READER: Final = ValueType(_CODE, (), lambda _: (), _read)
