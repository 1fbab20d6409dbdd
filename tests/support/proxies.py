"""A machine in the middle: it forwards the bytes of two ends, and may change, cut, delay or keep them."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: From the dialling side, and from the dialled side.
FORTH, BACK = 0, 1
#: Takes the direction of bytes, their position, and the bytes; returns the bytes to forward, or None to hang up.
Meddling = Callable[[int, int, bytes], bytes | None]


@dataclass
class Proxy:
    """A running proxy; `meddling` may be changed at any time."""

    port: int
    meddling: Meddling
    heard: list[bytes] = field(default_factory=list)  #: the first bytes of each connection


def leave(_way: int, _position: int, data: bytes) -> bytes:
    """Change nothing."""
    return data


def change(way: int, where: int) -> Meddling:
    """Return a meddler that changes one byte."""

    def meddle(going: int, position: int, data: bytes) -> bytes:
        place = where - position
        if going != way or not 0 <= place < len(data):
            return data
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return meddle


def cut(way: int, where: int) -> Meddling:
    """Return a meddler that hangs up after some bytes."""

    def meddle(going: int, position: int, data: bytes) -> bytes | None:
        return None if going == way and position + len(data) > where else data

    return meddle


def delay(seconds: float) -> Meddling:
    """Return a meddler that forwards everything, but late and in pieces."""

    def meddle(_way: int, _position: int, data: bytes) -> bytes:
        time.sleep(seconds)
        return data

    return meddle


@contextlib.contextmanager
def proxy_to(port: int, meddling: Meddling = leave, source: str = "127.0.0.1") -> Iterator[Proxy]:
    """Yield a proxy for a port of this machine, which dials from one of its addresses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener.getsockname()[1], meddling)
        thread = threading.Thread(target=_accept, args=(listener, port, proxy, source), daemon=True)
        thread.start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(listener: socket.socket, port: int, proxy: Proxy, source: str) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # the end
            return
        far = socket.create_connection(("127.0.0.1", port), None, (source, 0))
        threading.Thread(target=_serve, args=(proxy, near, far), daemon=True).start()


def _serve(proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
    with near, far:
        back = threading.Thread(target=_pass_on, args=(proxy, BACK, far, near), daemon=True)
        back.start()
        _pass_on(proxy, FORTH, near, far)
        back.join()


def _pass_on(proxy: Proxy, way: int, source: socket.socket, target: socket.socket) -> None:
    position = 0
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            if way == FORTH and position == 0:
                proxy.heard.append(data)
            passed = proxy.meddling(way, position, data)
            if passed is None:
                break
            position += len(data)
            target.sendall(passed)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
