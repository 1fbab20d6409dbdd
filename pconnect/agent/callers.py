"""One call of `prun` on the agent's side: its socket, the descriptors that it sent, and the messages to it."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable

from pconnect.agent.requests import Incoming, Request, RequestError, frame
from pconnect.prun.fast_client import NOTE

_PIECE = 2**18
_ENDS = 4
#: Time limit for a request to arrive. A process on the same machine sends it without delay.
_REQUEST_SECONDS = 30.0


class Caller:
    """One call. `ends`: our descriptors for its standard streams and its signals. `close` closes them.

    `on_signal`: called in the agent's thread with the number of each signal that the caller receives. `gone`: done
    when the caller has disconnected.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self.ends: list[int] = []
        self.on_signal: Callable[[int], object] = lambda _: None
        self.gone: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._sock = sock
        self._incoming = Incoming()
        self._request: asyncio.Future[Request] = loop.create_future()
        sock.setblocking(False)
        if self._is_ours():
            loop.add_reader(sock, self._receive)
        else:
            self._lose()

    async def request(self) -> Request:
        """Wait for the request and return it.

        Raises `RequestError` if it is invalid, `TimeoutError` if it does not arrive in time.
        """
        return await asyncio.wait_for(self._request, _REQUEST_SECONDS)

    def say(self, kind: bytes, contents: bytes = b"") -> None:
        """Send a short message without blocking. Any thread may call this."""
        with contextlib.suppress(OSError):  # the caller is gone; `_receive` handles that
            self._sock.send(frame(kind, contents))

    def note(self, text: str) -> None:
        """Print a short text on the caller's standard error."""
        self.say(NOTE, f"prun: {text}\n".encode(errors="surrogateescape"))

    async def tell(self, kind: bytes, contents: bytes) -> None:
        """Send a message of any length."""
        with contextlib.suppress(OSError):
            await self._loop.sock_sendall(self._sock, frame(kind, contents))

    def close(self) -> None:
        """Close the socket and the descriptors."""
        self._loop.remove_reader(self._sock)
        self._sock.close()
        if len(self.ends) == _ENDS:
            self._loop.remove_reader(self.ends[-1])
        for end in self.ends:
            os.close(end)
        self.ends.clear()
        self._request.cancel()

    def _is_ours(self) -> bool:
        """Return whether the caller belongs to this account. The folder's permissions should already ensure that."""
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack("3i", self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        return bool(uid == os.geteuid())

    def _receive(self) -> None:
        ends: list[int] = []
        try:
            if self._request.done():
                data = self._sock.recv(_PIECE)
            else:
                data, ends, *_ = socket.recv_fds(self._sock, _PIECE, _ENDS)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.ends += ends
        if not data:
            self._lose()
            return
        try:
            self._incoming.feed(data)
        except RequestError as error:
            self._loop.remove_reader(self._sock)
            if not self._request.done():
                self._request.set_exception(error)
            return
        request = self._incoming.request
        if request is not None and not self._request.done():
            if len(self.ends) == _ENDS:
                self._request.set_result(request)
                os.set_blocking(self.ends[-1], False)
                self._loop.add_reader(self.ends[-1], self._read_signals)
            else:
                self._request.set_exception(RequestError("prun did not send its standard streams"))

    def _read_signals(self) -> None:
        try:
            numbers = os.read(self.ends[-1], 64)
        except BlockingIOError:
            return
        if not numbers:
            self._loop.remove_reader(self.ends[-1])
        for number in numbers:
            self.on_signal(number)

    def _lose(self) -> None:
        self._loop.remove_reader(self._sock)
        if not self.gone.done():
            self.gone.set_result(None)
