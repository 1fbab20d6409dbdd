"""What is known of one setting of a server, and how its value is made of a text."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from srp_tools.errors import ConfigurationError

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


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
    return int(found[1]) * _UNITS[found[2].lower()]


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
