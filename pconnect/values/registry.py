"""Types that users register, so that values of theirs can be sent.

Such a value travels as a name and one value of supported types. The receiver makes it with what was registered under
that name *there*: a received name is looked up among those of this process and leads to nothing else, so nothing is
imported, and what may be called is what the receiver chose.

The registry is the only mutable state of a module in this package. It holds for a process, as that of `copyreg` does,
because what it speaks of does: there is one class of a name in a process, whatever the networks it sends to; and an
engine registers in its commands, which do not know the network's objects. Entries are replaced only on demand, so no
part of a program can change what another one receives without saying so.
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
_MAX_NAME: Final = 100  # characters: names are for people, and stand before every value

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
    """Let the values of a class be sent and received by this process.

    Each node that sends or receives such values has to register the class first, under the same name. Values of exactly
    this class are sent, those of its subclasses are not.

    Parameters
    ----------
    kind
        The class. None that can be sent already, and no abstract one, because no value is exactly of it.
    name
        What stands for it on the wire: 1 to 100 printable characters. ``"package.Class"`` avoids collisions.
    to_value
        Called with the object; returns any supported value, which may contain other registered types.
    from_value
        Called by `precv` at the receiver with that value; returns the object. It comes from another machine: check what
        your class relies on, and do not execute or import anything that it names.
    replace
        Take the place of what is registered under this name or for this class, as when a notebook's cell is run again.

    Raises
    ------
    ConfigurationError
        `kind` is no class or can be sent already, `name` is no good name, or one of them is registered. Nothing has
        changed.

    Notes
    -----
    An exception of `to_value` makes `psend` raise `UnsupportedValueError`, with nothing sent. One of `from_value` makes
    `precv` raise `UnreadableValueError`, with that exception as its cause. A receiver that did not register the name
    raises `UnavailableTypeError` from `precv`. The connection lives on in each case.

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
        raise ConfigurationError(f"register_type: {kind!r} is no class")
    if kind in BUILTIN or optional_types.is_of_package(kind):
        raise ConfigurationError(f"register_type: {kind} can be sent already, and stays what it is")
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise ConfigurationError(
            f"register_type: a name has 1 to {_MAX_NAME} printable characters, unlike {name!r:.200}"
        )
    if not replace and name in _makers:
        raise ConfigurationError(
            f"register_type: the name {name!r} is that of {_makers[name][0]}; pass replace=True to replace it"
        )
    if not replace and kind in _entries:
        raise ConfigurationError(f"register_type: {kind} is registered; pass replace=True to replace that")
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
    """Return how values of a type that is not builtin are written, if they can be sent; raise as `optional_types`."""
    return find_unnamed(kind) or named_types.find_entry(kind)


def find_unnamed(kind: type) -> ValueType | None:
    """Return the same, but for a type that receivers find by the name of its class."""
    return _entries.get(kind) or optional_types.find_entry(kind)


def _read(parts: list[Any]) -> object:
    if len(parts) != 2 or type(parts[0]) is not str:
        raise ProtocolError("wrong parts for a registered type")
    name, value = parts
    if name not in _makers:
        raise UnavailableTypeError(
            f"a value of the registered type {name[:_MAX_NAME]!r} arrived, but nothing is registered under this name "
            "at this node: call pconnect.register_type here before you receive it"
        )
    try:
        return _makers[name][1](value)
    except Exception as error:
        raise UnreadableValueError(
            f"a value of the registered type {name!r} arrived, but its from_value raised "
            f"{type(error).__name__}: {error}"
        ) from error


READER: Final = ValueType(_CODE, (), lambda _: (), _read)
