"""Forwarding the bytes of one connection to another in bounded memory: half of a relay."""

import contextlib
import os
import selectors
import socket
import sys
from collections.abc import Iterator

from srp_tools.steps import Steps, Wait

# Maximum number of bytes moved, and so held here, at one time for one direction of a relay.
_BYTES = 2**18

if sys.platform == "linux":
    import fcntl

    @contextlib.contextmanager
    def _pipe() -> Iterator[tuple[int, int]]:
        out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # An account with many pipes gets small ones, which are good enough.
            with contextlib.suppress(OSError):
                fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _BYTES)
            yield out, into
        finally:
            os.close(out)
            os.close(into)

    def pump(source: socket.socket, target: socket.socket) -> Steps[int]:
        """Forward data from one connection to another until it ends; then end the other; return the number of bytes.

        The bytes do not pass through this process (splice(2)). Both sockets are non-blocking. No other code may wait
        for these descriptors meanwhile; use `socket.socket.dup` for that.

        Raises `OSError` if a connection breaks.
        """
        total = 0
        with _pipe() as (out, into):
            while True:
                try:
                    held = os.splice(source.fileno(), into, _BYTES, flags=os.SPLICE_F_MOVE)
                except BlockingIOError:
                    yield Wait(source.fileno())
                    continue
                if not held:
                    break
                total += held
                while held:
                    try:
                        held -= os.splice(out, target.fileno(), held, flags=os.SPLICE_F_MOVE)
                    except BlockingIOError:
                        yield Wait(target.fileno(), selectors.EVENT_WRITE)
        target.shutdown(socket.SHUT_WR)
        return total

else:

    def pump(source: socket.socket, target: socket.socket) -> Steps[int]:
        """Forward data from one connection to another until it ends; then end the other; return the number of bytes.

        Both sockets are non-blocking. No other code may wait for these descriptors meanwhile; use
        `socket.socket.dup` for that.

        Raises `OSError` if a connection breaks.
        """
        total, buffer = 0, memoryview(bytearray(_BYTES))
        while True:
            try:
                held = source.recv_into(buffer)
            except BlockingIOError:
                yield Wait(source.fileno())
                continue
            if not held:
                break
            total += held
            left = buffer[:held]
            while left:
                try:
                    left = left[target.send(left) :]
                except BlockingIOError:
                    yield Wait(target.fileno(), selectors.EVENT_WRITE)
        target.shutdown(socket.SHUT_WR)
        return total
