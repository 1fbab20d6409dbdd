"""What `prun` and its agent say to each other; see `pconnect.prun.fast_client`, which has the other end."""

import os
from dataclasses import dataclass

from pconnect.prun.fast_client import REQUEST, SIGNAL

#: Of a request: more than any system lets a program have as arguments and environment.
MAX_REQUEST_BYTES = 2**24
_MAX_HEAD_BYTES = 64
_MAX_SAID_BYTES = 64


class RequestError(Exception):
    """What a client has sent is no request; the text says why."""


@dataclass(frozen=True)
class Request:
    """One call of `prun`.

    `cwd`: empty if it was removed. `closed`, `terminals`: of the standard streams, which are closed, or terminals.
    `size`: rows and columns of the terminal. `words`: the arguments. `environment`: of the caller.
    """

    cwd: bytes
    closed: tuple[bool, ...]
    terminals: tuple[bool, ...]
    size: tuple[int, int]
    words: tuple[str, ...]
    environment: dict[bytes, bytes]

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
    """What comes from a client, in any pieces: first its request, then signals."""

    def __init__(self) -> None:
        self._data = b""
        self._length: int | None = None
        self.request: Request | None = None

    def feed(self, data: bytes) -> list[list[int]]:
        """Take a piece; return the signals that are complete: numbers, and for a terminal's size rows and columns.

        Raises `RequestError` if it is nothing that a client says.
        """
        self._data += data
        if self.request is None:
            self._take_request()
        if self.request is None:
            return []
        return self._signals()

    def _take_request(self) -> None:
        if self._length is None:
            head, end, rest = self._data.partition(b"\n")
            number = head.removeprefix(REQUEST)
            if (end and not (head.startswith(REQUEST) and number.isdigit())) or len(head) > _MAX_HEAD_BYTES:
                raise RequestError(
                    "this agent is of another version than prun; stop it with: prun --agent stop"
                )
            if not end:
                return
            self._length, self._data = int(number), rest
            if self._length > MAX_REQUEST_BYTES:
                raise RequestError(f"arguments and environment have more than {MAX_REQUEST_BYTES} bytes")
        if len(self._data) >= self._length:
            contents, self._data = self._data[: self._length], self._data[self._length :]
            self.request = _unpack(contents)

    def _signals(self) -> list[list[int]]:
        signals = []
        while len(self._data) >= 5:
            length = int.from_bytes(self._data[1:5], "big")
            if self._data[:1] != SIGNAL or length > _MAX_SAID_BYTES:
                raise RequestError("not what prun says")
            if len(self._data) < 5 + length:
                break
            numbers = self._data[5 : 5 + length].split()
            if not (numbers and all(number.isdigit() for number in numbers)):
                raise RequestError("not what prun says")
            signals.append([int(number) for number in numbers])
            self._data = self._data[5 + length :]
        return signals


def _unpack(contents: bytes) -> Request:
    try:
        cwd, flags, size, count, *rest = contents.split(b"\0")
        rows_and_columns = size.split()
        columns, rows = (int(number) for number in rows_and_columns)
        words, variables = rest[: int(count)], rest[int(count) :]
        environment = dict(variable.split(b"=", 1) for variable in variables)
    except ValueError:
        raise RequestError("not a request of prun") from None
    marks = tuple(flag == ord("1") for flag in flags)
    if len(marks) != 6 or len(words) != int(count):
        raise RequestError("not a request of prun")
    decoded = tuple(os.fsdecode(word) for word in words)
    return Request(cwd, marks[:3], marks[3:], (rows, columns), decoded, environment)
