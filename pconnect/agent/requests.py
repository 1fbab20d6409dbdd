"""The messages between `prun` and its agent. `pconnect.prun.fast_client` is the other end."""

import os
from dataclasses import dataclass

from pconnect.prun.fast_client import REQUEST

#: The limit for a request. No system allows a program that many bytes of arguments and environment.
MAX_REQUEST_BYTES = 2**24
_MAX_HEAD_BYTES = 64


class RequestError(Exception):
    """A client sent an invalid request. The text gives the reason."""


@dataclass(frozen=True)
class Request:
    """One call of `prun`.

    `cwd`: the working folder, empty if it was removed. `closed`, `terminals`: for each standard stream, whether it is
    closed, and whether it is a terminal. `words`: the arguments. `environment`, `umask`: those of the caller.
    """

    cwd: bytes
    closed: tuple[bool, ...]
    terminals: tuple[bool, ...]
    words: tuple[str, ...]
    environment: dict[bytes, bytes]
    umask: int = 0o022

    @property
    def folder(self) -> bytes:
        """The working folder as the caller's shell names it, with symbolic links unresolved."""
        named = self.environment.get(b"PWD", b"")
        try:
            if named.startswith(b"/") and os.path.samefile(named, self.cwd):  # noqa: PTH121 - bytes
                return named
        except OSError:
            pass
        return self.cwd


def frame(kind: bytes, contents: bytes = b"") -> bytes:
    """Encode a message to a client."""
    return kind + len(contents).to_bytes(4, "big") + contents


class Incoming:
    """Parser for the request of a client, which may arrive in pieces. `request`: the complete request, or ``None``."""

    def __init__(self) -> None:
        self._data = b""
        self._length: int | None = None
        self.request: Request | None = None

    def feed(self, data: bytes) -> None:
        """Add a piece; raise `RequestError` if it is invalid."""
        if self.request is not None:
            raise RequestError("unexpected data after the request")
        self._data += data
        if self._length is None:
            head, end, rest = self._data.partition(b"\n")
            number = head.removeprefix(REQUEST)
            if (end and not (head.startswith(REQUEST) and number.isdigit())) or len(head) > _MAX_HEAD_BYTES:
                raise RequestError(
                    f"prun and its agent have different versions; end the agent with: kill {os.getpid()}"
                )
            if not end:
                return
            self._length, self._data = int(number), rest
            if self._length > MAX_REQUEST_BYTES:
                raise RequestError(f"the arguments and the environment exceed {MAX_REQUEST_BYTES} bytes")
        if len(self._data) >= self._length:
            if len(self._data) > self._length:
                raise RequestError("unexpected data after the request")
            self.request, self._data = _unpack(self._data), b""


def _unpack(contents: bytes) -> Request:
    try:
        cwd, flags, mask, count, *rest = contents.split(b"\0")
        umask = int(mask, 8)
        words, variables = rest[: int(count)], rest[int(count) :]
        environment = dict(variable.split(b"=", 1) for variable in variables)
    except ValueError:
        raise RequestError("this is not a request from prun") from None
    marks = tuple(flag == ord("1") for flag in flags)
    if len(marks) != 6 or len(words) != int(count):
        raise RequestError("this is not a request from prun")
    decoded = tuple(os.fsdecode(word) for word in words)
    return Request(cwd, marks[:3], marks[3:], decoded, environment, umask)
