"""The description of one setting of a server, and the parsers for values."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from srp_tools.errors import ConfigurationError

_MOST_BYTES = 2**62  # the system's sizes have 63 bits
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Option:
    """Facts about a setting, besides its name, type and default, for the command line and the documentation."""

    help: str  #: one or two sentences, without the default
    metavar: str | None = None  #: the placeholder for the value in the usage; None for a switch
    #: Makes a value from a text; raises ConfigurationError if the text is not valid.
    parse: Callable[[str], object] = str
    default_text: str | None = None  #: describes the default if the value itself says little
    #: The flags, if they differ from the name. A setting that is on by default has a flag that turns it off.
    flags: tuple[str, ...] = ()
    bare: str | None = None  #: the value of an option without one; None: the option needs a value
    reloads: bool = False  #: whether ``pserver reload`` changes it in a running server, without a restart


def parse_size(text: str) -> int:
    """Return the number of bytes that a size such as ``4096``, ``64m`` or ``2g`` means.

    Raises `ConfigurationError` unless the text is a whole number, alone or with one of k, m, g and t (powers of 1024).

    Examples
    --------
    >>> parse_size("4096"), parse_size("64m"), parse_size("2G") == 2 * 2**30
    (4096, 67108864, True)
    """
    found = re.fullmatch(r"([0-9]+)([kmgt]?)", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is not a size: give a number of bytes, or a number with k, m, g or t (powers of 1024), "
            "such as 64m"
        )
    size = int(found[1]) * _UNITS[found[2].lower()]
    if size > _MOST_BYTES:
        raise ConfigurationError(f"{text} is more than any machine has; give a smaller size")
    return size


def parse_duration(text: str) -> float:
    """Return the number of seconds that a duration such as ``90``, ``15m``, ``1.5h`` or ``7d`` means.

    Raises `ConfigurationError` unless the text is a number, alone or with one of s, m, h and d.

    Examples
    --------
    >>> parse_duration("90"), parse_duration("15m"), parse_duration("1.5h")
    (90.0, 900.0, 5400.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)([smhd]?)", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is not a duration: give a number of seconds, or a number with m, h or d, such as 90m"
        )
    return float(found[1]) * _SECONDS[found[2].lower()]


def duration_text(seconds: float) -> str:
    """Return a duration in the form that `parse_duration` reads.

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
    """Return a size in the form that `parse_size` reads.

    Examples
    --------
    >>> size_text(2**29), size_text(2**30), size_text(1500)
    ('512m', '1g', '1500')
    """
    return next(f"{size // each}{unit}" for unit, each in reversed(_UNITS.items()) if size % each == 0)


def _is_count(number: float) -> bool:
    return number >= 2 and number.is_integer()


def check_size(flag: str, size: int) -> None:
    """Raise `ConfigurationError` if a size is negative."""
    if size < 0:
        raise ConfigurationError(f"{flag} {size}: a size cannot be negative; 0 sets no limit")


def parse_list(text: str) -> tuple[str, ...]:
    """Split a comma-separated list, without its empty parts.

    Raises `ConfigurationError` if nothing is left: an empty list must not let everyone in.

    Examples
    --------
    >>> parse_list("alice, bob")
    ('alice', 'bob')
    """
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise ConfigurationError(f"{text!r} names no user; leave out the option to allow all")
    return parts


def setting(default: object, text: str, metavar: str | None = None, **more: Any) -> Any:
    """Return a dataclass field that declares one setting; `more`: further fields of its `Option`."""
    return field(default=default, metadata={"option": Option(text, metavar, **more)})


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Settings that belong together; `ServerConfig` has all of them."""

    def __post_init__(self) -> None:
        """Check the values; each group extends this method, and raises `ConfigurationError` for a bad value."""
