"""What is known of one setting of a server, and how its value is made of a text."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from srp_tools.errors import ConfigurationError

_MOST_BYTES = 2**62  # the system has 63 bits for a size
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Option:
    """What the command line and the documentation need to know of a setting besides its name, type and default."""

    help: str  #: one or two sentences, without the default
    metavar: str | None = None  #: what stands for the value in the usage, None for a switch
    #: Makes the value of its text; raises ConfigurationError if it cannot.
    parse: Callable[[str], object] = str
    default_text: str | None = None  #: names the default where the value itself says little
    #: On the command line, if not made of the name. A switch that is on by default has one that turns it off.
    flags: tuple[str, ...] = ()
    bare: str | None = None  #: what it means on the command line without a value, if it can be without
    reloads: bool = False  #: a server that runs takes in another value; else it has to be started again


def parse_size(text: str) -> int:
    """Return the bytes that a size such as ``4096``, ``64m`` or ``2g`` means.

    Raises `ConfigurationError` if it is not a whole number, or what follows the number is not one of k, m, g and t, the
    powers of 1024.

    Examples
    --------
    >>> parse_size("4096"), parse_size("64m"), parse_size("2G") == 2 * 2**30
    (4096, 67108864, True)
    """
    found = re.fullmatch(r"([0-9]+)([kmgt]?)", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is not a size: give a number of bytes, or one with k, m, g or t (powers of 1024), such as 64m"
        )
    size = int(found[1]) * _UNITS[found[2].lower()]
    if size > _MOST_BYTES:
        raise ConfigurationError(f"{text} is more than any machine has")
    return size


def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as ``90``, ``15m``, ``1.5h`` or ``7d`` means.

    Raises `ConfigurationError` if it is not a number, or what follows the number is not one of s, m, h and d.

    Examples
    --------
    >>> parse_duration("90"), parse_duration("15m"), parse_duration("1.5h")
    (90.0, 900.0, 5400.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)([smhd]?)", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is not a duration: give a number of seconds, or one with m, h or d, such as 90m"
        )
    return float(found[1]) * _SECONDS[found[2].lower()]


def duration_text(seconds: float) -> str:
    """Return a duration as one writes it for `parse_duration`.

    Examples
    --------
    >>> duration_text(60.0), duration_text(3600.0), duration_text(7200.0), duration_text(0.5)
    ('60', '60m', '2h', '0.5')
    """
    return next(
        (
            f"{seconds / each:g}{unit}"
            for unit, each in reversed(_SECONDS.items())
            if _is_count(seconds / each)
        ),
        f"{seconds:g}",
    ).removesuffix("s")


def size_text(size: int) -> str:
    """Return a size as one writes it for `parse_size`.

    Examples
    --------
    >>> size_text(2**29), size_text(2**30), size_text(1500)
    ('512m', '1g', '1500')
    """
    return next(f"{size // each}{unit}" for unit, each in reversed(_UNITS.items()) if size % each == 0)


def _is_count(number: float) -> bool:
    return number >= 2 and number.is_integer()


def check_size(flag: str, size: int) -> None:
    """Refuse a size that is negative; raises `ConfigurationError`."""
    if size < 0:
        raise ConfigurationError(f"{flag} {size}: a size is not negative; 0 sets no limit")


def parse_list(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas; empty ones are left out.

    Raises `ConfigurationError` if there is no other: a list that was forgotten must not let everybody in.

    Examples
    --------
    >>> parse_list("alice, bob")
    ('alice', 'bob')
    """
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise ConfigurationError(f"{text!r} names no user; leave the option out to allow all")
    return parts


def setting(default: object, text: str, metavar: str | None = None, **more: Any) -> Any:
    """Return a field of a dataclass that declares one setting; `more`: the rest of its `Option`."""
    return field(default=default, metadata={"option": Option(text, metavar, **more)})


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Settings that belong together; `ServerConfig` has all of them."""

    def __post_init__(self) -> None:
        """Refuse values that cannot be used: a group does so in a method of this name, which calls this one."""
