"""Tokens: the data needed to get back the jobs of a detached network. A token holds no password."""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pconnect.errors import ConfigurationError
from pconnect.protocol.frames import NETWORK_ID_BYTES

_VERSION = 1
_MAX_JOBS = 2**24
SECRET_BYTES = 24


@dataclass(frozen=True)
class Token:
    """The contents of a token."""

    network_id: bytes  #: of the detached network
    secret: bytes  #: random bytes; with them and the same user's password, anyone can get the results
    #: Name and port of each server, by node from 1; and its data port, if the user has given one.
    hosts: tuple[tuple[str, int] | tuple[str, int, int], ...]
    jobs: dict[int, list[int]]  #: the job numbers of each node that has any
    #: The numbers of jobs whose results may be pickled. This is the client's decision, not a server's.
    pickled: frozenset[int]

    def pack(self) -> str:
        """Return the token as text.

        Examples
        --------
        >>> token = Token(bytes(16), bytes(24), (("hostA", 12502),), {1: [1, 2, 3, 7]}, frozenset({7}))
        >>> unpack_token(token.pack()) == token
        True
        """
        told = {
            "version": _VERSION,
            "network": self.network_id.hex(),
            "secret": self.secret.hex(),
            "hosts": self.hosts,
            "jobs": [[node, _ranges(numbers)] for node, numbers in self.jobs.items()],
            "pickled": _ranges(self.pickled),
        }
        return base64.urlsafe_b64encode(json.dumps(told, separators=(",", ":")).encode()).decode()


def unpack_token(text: object) -> Token:
    """Return the contents of a token. Raises `ConfigurationError` if the text is not a token."""
    if not isinstance(text, str):
        raise ConfigurationError(f"recover={text!r} is not a token: give the text that detach() has returned")
    try:
        told: dict[str, Any] = json.loads(
            base64.b64decode(text.strip().encode(), altchars=b"-_", validate=True)
        )
        if told["version"] != _VERSION:
            raise ConfigurationError(
                f"recover: the token has version {told['version']}, this software reads {_VERSION}: use the software "
                "that made it"
            )
        token = Token(
            bytes.fromhex(told["network"]),
            bytes.fromhex(told["secret"]),
            tuple(_host(*host) for host in told["hosts"]),
            {int(node): _numbers(ranges) for node, ranges in told["jobs"]},
            frozenset(_numbers(told["pickled"])),
        )
    except ConfigurationError:
        raise
    except (binascii.Error, UnicodeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigurationError(
            "recover: this is not a complete token: give the text that detach() has returned, or the contents of the "
            "file that detach(path=...) has written: recover=Path(...).read_text()"
        ) from error
    if len(token.network_id) != NETWORK_ID_BYTES or not all(1 <= n <= len(token.hosts) for n in token.jobs):
        raise ConfigurationError("recover: the token contradicts itself: it is damaged")
    return token


def _host(name: object, port: Any, *data_port: Any) -> tuple[str, int] | tuple[str, int, int]:
    return (str(name), int(port), int(data_port[0])) if data_port else (str(name), int(port))


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return numbers as a list of ranges, each with its first number and its length."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == sum(ranges[-1]):
            ranges[-1][1] += 1
        else:
            ranges.append([number, 1])
    return ranges


def _numbers(ranges: Any) -> list[int]:
    if sum(count for _, count in ranges) > _MAX_JOBS:
        raise ConfigurationError("recover: the token contradicts itself: it is damaged")
    return [number for first, count in ranges for number in range(first, first + count)]
