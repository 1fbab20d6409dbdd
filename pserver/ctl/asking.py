"""One request to a server and its answer, each a line of JSON on the socket ``NAME.control``.

A request is ``{"do": WORD, ...}``; `pserver.daemon.control.words` defines the words. An answer is ``{"ok": FACTS}`` or
``{"error": TEXT}``. Every request has a deadline, because a stopped server (SIGSTOP) accepts the connection but never
answers.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pconnect.errors import AuthenticationError
from pconnect.link.local_link import connect
from pserver.config.listen_options import check_server_name
from pserver.system.descriptors import json_object
from pserver.system.pidfile import RunningServer
from pserver.system.runtime_dir import run_time_folder
from srp_tools.errors import ConfigurationError

MAX_REQUEST_BYTES = 4096
_MAX_ANSWER_BYTES = 2**24  # room for the lines of many thousand sessions
ANSWER_SECONDS = 2.0


class NoAnswerError(ConfigurationError):
    """There is no server at the control socket, or it did not answer in time."""


def control_path(name: str, folder: Path | None = None) -> Path:
    """Return the path of a server's control socket; `folder`: its run-time folder, if not this account's."""
    check_server_name(name)
    return (folder or run_time_folder()) / f"{name}.control"


def ask(
    server: RunningServer, request: Mapping[str, object], seconds: float = ANSWER_SECONDS
) -> dict[str, Any]:
    """Send a request to a server of this account; return the answer.

    Raises `NoAnswerError` if there is no server, or if it does not answer within `seconds`; it may still carry out the
    request. Raises `ConfigurationError` if it refuses; the message gives the reason.
    """
    return Question(control_path(server.name, server.folder), request).answer(time.monotonic() + seconds)


class Question:
    """A request in progress.

    Raises `NoAnswerError` if no process accepts it.
    """

    def __init__(self, path: Path, request: Mapping[str, object]) -> None:
        data = json.dumps(dict(request)).encode() + b"\n"
        if len(data) > MAX_REQUEST_BYTES:
            raise ConfigurationError(f"a request may have at most {MAX_REQUEST_BYTES} bytes")
        self._path = path
        try:
            self._sock = connect(path)
        except (OSError, AuthenticationError) as error:
            raise NoAnswerError(f"no server is listening on {path}: {error}") from error
        try:
            self._sock.send(data)  # a new socket has room for it
        except OSError as error:
            self._sock.close()
            raise NoAnswerError(f"the server at {path} did not accept the request: {error}") from error

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the answer arrives."""
        return self._sock.fileno()

    def close(self) -> None:
        """Abandon the request."""
        self._sock.close()

    def answer(self, deadline: float) -> dict[str, Any]:
        """Wait for the answer until `deadline` and return it; raise the same errors as `ask`. Call this once."""
        with self._sock:
            told = json_object(self._read_line(deadline))
        error, facts = told.get("error"), told.get("ok")
        if isinstance(error, str):
            raise ConfigurationError(error)
        if not isinstance(facts, dict):
            raise NoAnswerError(f"the server at {self._path} closed the connection or sent an invalid answer")
        return facts

    def _read_line(self, deadline: float) -> bytes:
        data = bytearray()
        while not data.endswith(b"\n") and len(data) < _MAX_ANSWER_BYTES:
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self._sock.settimeout(left)
                part = self._sock.recv(2**16)
            except TimeoutError:
                raise NoAnswerError(
                    f"the server at {self._path} does not answer; it may be stopped (SIGSTOP), or the machine is busy"
                ) from None
            except OSError:
                part = b""
            if not part:
                break
            data += part
        return bytes(data)
