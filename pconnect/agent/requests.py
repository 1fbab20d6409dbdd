"""What `prun` and its agent say to each other; see `pconnect.prun.fast_client`, which has the other end."""

import os
from dataclasses import dataclass

from pconnect.prun.fast_client import REQUEST

#: Of a request: more than any system lets a program have as arguments and environment.
MAX_REQUEST_BYTES = 2**24
_MAX_HEAD_BYTES = 64


class RequestError(Exception):
    """What a client has sent is no request; the text says why."""


@dataclass(frozen=True)
class Request:
    """One call of `prun`.

    `cwd`: empty if it was removed. `closed`, `terminals`: of the standard streams, which are closed, or terminals.
    `words`: the arguments. `environment`: of the caller. `umask`: of his.
    """

    cwd: bytes
    closed: tuple[bool, ...]
    terminals: tuple[bool, ...]
    words: tuple[str, ...]
    environment: dict[bytes, bytes]
    umask: int = 0o022

    @property
    def folder(self) -> bytes:
        """The folder as the caller's shell calls it: by the links that lead to it."""
        named = self.environment.get(b"PWD", b"")
        try:
            if named.startswith(b"/") and os.path.samefile(named, self.cwd):  # noqa: PTH121 - bytes
                return named
        except OSError:
            pass
        return self.cwd


def frame(kind: bytes, contents: bytes = b"") -> bytes:
    """Return a message to a client."""
    return kind + len(contents).to_bytes(4, "big") + contents


class Incoming:
    """The request of a client, in any pieces. `request`: it, when it has come."""

    def __init__(self) -> None:
        self._data = b""
        self._length: int | None = None
        self.request: Request | None = None

    def feed(self, data: bytes) -> None:
        """Take a piece; raise `RequestError` if it is nothing that a client says."""
        if self.request is not None:
            raise RequestError("not what prun says")
        self._data += data
        if self._length is None:
            head, end, rest = self._data.partition(b"\n")
            number = head.removeprefix(REQUEST)
            if (end and not (head.startswith(REQUEST) and number.isdigit())) or len(head) > _MAX_HEAD_BYTES:
                raise RequestError("the agent is of another version than prun; end it: kill it, or log out")
            if not end:
                return
            self._length, self._data = int(number), rest
            if self._length > MAX_REQUEST_BYTES:
                raise RequestError(f"arguments and environment have more than {MAX_REQUEST_BYTES} bytes")
        if len(self._data) >= self._length:
            if len(self._data) > self._length:
                raise RequestError("not what prun says")
            self.request, self._data = _unpack(self._data), b""


def _unpack(contents: bytes) -> Request:
    try:
        cwd, flags, mask, count, *rest = contents.split(b"\0")
        umask = int(mask, 8)
        words, variables = rest[: int(count)], rest[int(count) :]
        environment = dict(variable.split(b"=", 1) for variable in variables)
    except ValueError:
        raise RequestError("not a request of prun") from None
    marks = tuple(flag == ord("1") for flag in flags)
    if len(marks) != 6 or len(words) != int(count):
        raise RequestError("not a request of prun")
    decoded = tuple(os.fsdecode(word) for word in words)
    return Request(cwd, marks[:3], marks[3:], decoded, environment, umask)
