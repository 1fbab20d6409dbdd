"""Tokens: what is needed to get back the jobs of a network that was detached. A token holds no password."""

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
    """What a token says."""

    network_id: bytes  #: of the network that was detached
    secret: bytes  #: random bytes; anyone with them, and the same user's password, may have the results
    #: Name and port of each server, by node from 1; and its data port, if the user has named that.
    hosts: tuple[tuple[str, int] | tuple[str, int, int], ...]
    jobs: dict[int, list[int]]  #: the numbers of the jobs of each node that has any
    #: The numbers of those whose results may come by pickle. The client says so, not a server.
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
    """Return what a token says. Raises `ConfigurationError` if it is not a token."""
    if not isinstance(text, str):
        raise ConfigurationError(f"recover={text!r}: it must be the text that detach() has returned")
    try:
        told: dict[str, Any] = json.loads(
            base64.b64decode(text.strip().encode(), altchars=b"-_", validate=True)
        )
        if told["version"] != _VERSION:
            raise ConfigurationError(
                f"recover: the token is of version {told['version']}, here it is {_VERSION}; use the software that "
                "made it"
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
            "recover: that is no token, or not all of it; give the text that detach() has returned, or that of the "
            "file which detach(path=...) has written: recover=Path(...).read_text()"
        ) from error
    if len(token.network_id) != NETWORK_ID_BYTES or not all(1 <= n <= len(token.hosts) for n in token.jobs):
        raise ConfigurationError("recover: the token contradicts itself")
    return token


def _host(name: object, port: Any, *data_port: Any) -> tuple[str, int] | tuple[str, int, int]:
    return (str(name), int(port), int(data_port[0])) if data_port else (str(name), int(port))


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Return numbers as a list of first and count of those in a row."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == sum(ranges[-1]):
            ranges[-1][1] += 1
        else:
            ranges.append([number, 1])
    return ranges


def _numbers(ranges: Any) -> list[int]:
    if sum(count for _, count in ranges) > _MAX_JOBS:
        raise ConfigurationError("recover: the token contradicts itself")
    return [number for first, count in ranges for number in range(first, first + count)]
