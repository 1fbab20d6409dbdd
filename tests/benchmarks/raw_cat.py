"""The upper limit for a program's streams: standard input passes over plain TLS sockets through `cat` and back.

It runs as a separate program between two pipes. Each direction has a connection and, at both ends, a thread.
"""

import contextlib
import fcntl
import os
import socket
import ssl
import subprocess
import threading

from tests.benchmarks.raw import lone_contexts

_PIECE = 2**18
_PIPE_BYTES = 2**20


def main() -> None:
    """Pass everything from standard input through `cat` to standard output."""
    client, server = lone_contexts()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        if not os.fork():
            _serve(listener, server)
            os._exit(0)
    there, back = (client.wrap_socket(socket.create_connection(address)) for _ in range(2))
    _pass_both_ways(0, there, back, 1)
    os.wait()


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    for number in (0, 1):
        os.close(number)
    there, back = (context.wrap_socket(listener.accept()[0], server_side=True) for _ in range(2))
    (read_there, write_there), (read_back, write_back) = os.pipe(), os.pipe()
    with subprocess.Popen(["cat"], stdin=read_there, stdout=write_back):
        os.close(read_there)
        os.close(write_back)
        _pass_both_ways(read_back, back, there, write_there)


def _pass_both_ways(source: int, there: ssl.SSLSocket, back: ssl.SSLSocket, target: int) -> None:
    for number in (source, target):
        with contextlib.suppress(OSError):  # not a pipe
            fcntl.fcntl(number, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    thread = threading.Thread(target=_receive, args=(back, target))
    thread.start()
    while piece := os.read(source, _PIECE):
        there.sendall(piece)
    there.shutdown(socket.SHUT_WR)
    thread.join()


def _receive(sock: ssl.SSLSocket, target: int) -> None:
    buffer = memoryview(bytearray(_PIECE))
    while count := sock.recv_into(buffer):
        rest = buffer[:count]
        while rest:
            rest = rest[os.write(target, rest) :]
    os.close(target)


if __name__ == "__main__":
    main()
