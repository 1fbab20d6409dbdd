"""The page of a network's servers in a browser or notebook: `pconnect.views.dashboard_views`.

A separate process serves the page, see `pserver.page.of_network`: the page stays available while the client computes,
and takes no time from it. The process asks for documents on a socket, one question at a time, and only while someone
views the page. A thread of the client answers, so that the page works while a notebook waits for its next cell; if
another thread is waiting in the network's loop, that thread serves the network meanwhile. Everything ends with the
network.
"""

import contextlib
import html
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pconnect.errors import ConfigurationError, ConnectionLostError, ParallelError
from pconnect.loop.forked_copies import leave_in_copies
from srp_tools.packages import missing_packages

_PACKAGES = ("starlette", "uvicorn", "prometheus_client")  # of the extra `page`
_START_SECONDS = 30.0
_END_SECONDS = 5.0
_MOST_QUESTION = 2**17  # bytes: enough for an instant for each of thousands of servers
_MOST_FIRST_LINE = 4096
_FRAME_HEIGHT = 720

#: Returns each server's document, by host, with data from the given instants on.
Ask = Callable[[Mapping[str, float]], Mapping[str, Mapping[str, Any]]]


class Dashboard:
    """A page that shows the servers of a network. A notebook shows it in a frame.

    Attributes
    ----------
    url
        Its address for a browser on this machine, with the token.
    """

    def __init__(self, ask: Ask, proxied: str | None) -> None:
        if sys.platform != "linux":
            raise ConfigurationError(
                "the page of a network needs Linux on the client: run pstat --serve on a server instead"
            )
        if missing := missing_packages(_PACKAGES):
            raise ConfigurationError(
                f"{', '.join(missing)} is not installed here: run pip install 'pserver[page]'"
            )
        self._ask = ask
        self._prefix = proxied
        self._owner = os.getpid()
        self._sock, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-X", "utf8", "-m", "pserver.page.of_network"),
                        *("--fd", str(theirs.fileno())),
                        *(["--proxied"] if proxied is not None else []),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # so that Ctrl-C reaches only the client
                )
            leave_in_copies(self)
            self.url = self._begin()
        except BaseException:
            self.close()
            self._sock.close()
            raise
        threading.Thread(target=self._serve, name="dashboard", daemon=True).start()

    def _begin(self) -> str:
        """Return the address that the process reports."""
        self._sock.settimeout(_START_SECONDS)
        try:
            line = _read_line(self._sock, _MOST_FIRST_LINE)
        except TimeoutError:
            raise TimeoutError(
                f"timed out after {_START_SECONDS:g} s waiting for the page to start"
            ) from None
        self._sock.settimeout(None)
        match json.loads(line or b"{}"):
            case {"url": str(url)}:
                return url
            case {"error": str(why)}:
                raise ConfigurationError(f"the page cannot be shown: {why}")
        raise ConfigurationError(
            "the process of the page ended while it was starting: see its last output on standard error"
        )

    def _serve(self) -> None:
        """Answer questions until the other end is closed; runs in a thread."""
        with self._sock, contextlib.suppress(OSError):
            while line := _read_line(self._sock, _MOST_QUESTION):
                self._sock.sendall(json.dumps(self._answer(line)).encode() + b"\n")

    def _answer(self, line: bytes) -> Mapping[str, object]:
        try:
            since = json.loads(line)
            return {"ok": self._ask(since)}
        except (ParallelError, OSError, ValueError, KeyboardInterrupt) as error:
            return {"error": str(error) or type(error).__name__}

    @property
    def is_shown(self) -> bool:
        """Whether the page is still served."""
        return self._process.poll() is None

    def close(self) -> None:
        """Close the page; further calls do nothing."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        process = getattr(self, "_process", None)
        if process is not None and process.returncode is None and os.getpid() == self._owner:
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def abandon(self, _: ConnectionLostError) -> None:
        """Give up the page in a forked process; see `pconnect.loop.forked_copies`."""
        self._sock.close()

    @property
    def _source(self) -> str:
        """The address for a frame in a notebook."""
        if self._prefix is None:
            return self.url
        port, _, query = self.url.rpartition(":")[2].partition("/")
        return f"{self._prefix}proxy/{port}/{query}"

    def __repr__(self) -> str:
        return f"Dashboard at {self.url}"

    def _repr_html_(self) -> str:
        source = html.escape(self._source)
        return (
            f'<iframe src="{source}" width="100%" height="{_FRAME_HEIGHT}" style="border: 0" '
            'title="Servers of the network"></iframe>'
            f'<p><a href="{source}" target="_blank" rel="noopener noreferrer">Open the page in a tab</a></p>'
        )


def _read_line(sock: socket.socket, most: int) -> bytes:
    """Return a line; at most `most` bytes of a line that is too long, and nothing at the end of the stream."""
    line = bytearray()
    deadline = None if sock.gettimeout() is None else time.monotonic() + _START_SECONDS
    while not line.endswith(b"\n") and len(line) < most:
        if deadline is not None:
            sock.settimeout(max(0.01, deadline - time.monotonic()))
        part = sock.recv(most - len(line))
        if not part:
            return b""
        line += part
    return bytes(line)


def notebook_prefix(environment: Mapping[str, str], modules: Sequence[str]) -> str | None:
    """Return the path below which jupyter-server-proxy shows local ports; ``None`` outside of such a notebook.

    `environment`: environment variables. `modules`: names of available modules: ``ipykernel`` if this process is the
    kernel of a notebook, ``jupyter_server_proxy`` if that package is installed.
    """
    if {"ipykernel", "jupyter_server_proxy"} <= set(modules):
        return environment.get("JUPYTERHUB_SERVICE_PREFIX", "/")
    return None
