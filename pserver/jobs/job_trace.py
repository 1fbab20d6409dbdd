"""The trace of jobs in the log at level ``debug``: what ran, how it ended, and how long it took.

A worker reports each finished job to its supervisor in one datagram, and the supervisor writes the line, because
processes that run user code cannot write to the log. The worker never waits: if the socket is full, the line is
missing. The trace includes the arguments of programs, but not those of functions, nor their source and results.
"""

import contextlib
import json
import logging
import math
import os
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pconnect.jobs.job import FAILED
from pserver.logbook.fields import Field, shortened, write
from pserver.system.descriptors import json_object
from pserver.system.processes import describe_exit

log = logging.getLogger("pserver")

_MOST = 400  # characters for what ran, and for how it ended
_MAX_BYTES = 8192


class JobTrace:
    """The worker's side. `functions`: the functions of jobs by number, as in `pserver.engine.job_runner.JobRunner`."""

    def __init__(self, sock: socket.socket, functions: Mapping[int, object]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._functions = functions
        self._contents: Any = None

    def begin(self, contents: Any) -> None:
        """Record the job to which the next result belongs."""
        self._contents = contents

    def end(self, number: int, result: Sequence[Any]) -> None:
        """Report a job, given its result."""
        contents, self._contents = self._contents, None
        if len(result) < 4:  # the job was dropped before it began
            return
        kind, value, _, seconds, *_ = result
        words = {
            "job": number,
            "what": self._what(contents),
            "status": _status(kind, value),
            "seconds": seconds,
        }
        with contextlib.suppress(OSError):  # the supervisor is busy, or gone
            self._sock.send(json.dumps(words).encode())

    def _what(self, contents: Any) -> str:
        if not isinstance(contents, list | tuple) or len(contents) != 4:
            return "a large job"
        number, _, _, options = contents
        if options and (program := options.get("program")):
            return shortened(shlex.join(map(os.fsdecode, program["args"])), _MOST)
        return shortened(name_of(self._functions.get(number)), _MOST)


def name_of(function: object) -> str:
    """Return the name of a function, with its module unless that is the user's script."""
    try:
        name = str(getattr(function, "__qualname__", "") or type(function).__qualname__)
        module = str(getattr(function, "__module__", ""))
    except Exception:  # noqa: BLE001 - attributes of the user's objects may raise anything
        return "a function"
    return name if module in {"", "__main__", "builtins"} else f"{module}.{name}"


def _status(kind: Any, value: Any) -> str:
    match value:
        case {"type": str(name)} if kind == FAILED:
            return f"failed: {name}"[:_MOST]
        case {"why": str(why)}:
            return f"not started: {why}"[:_MOST]
        case {"status": int(status)}:
            return describe_exit(status)
    return "done"


class JobLog:
    """The supervisor's side: writes the lines for a user's node, if the log level includes them.

    `watch`: has a function called whenever a descriptor is readable.
    """

    def __init__(self, user: str, node: int, watch: Callable[[int, Callable[[], None]], object]) -> None:
        self._fields: dict[str, Field] = {"user": user, "session": os.getpid(), "node": node}
        self._ours: socket.socket | None = None
        self.ends: list[int] = []  #: the descriptors to pass to a worker: one, or none
        if log.isEnabledFor(logging.DEBUG):
            self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._ours.setblocking(False)
            self.ends = [self._theirs.fileno()]
            watch(self._ours.fileno(), self.read)

    def fileno(self) -> int:
        """Return the descriptor that is watched; -1 if there is none."""
        return self._ours.fileno() if self._ours else -1

    def close(self) -> None:
        """Write the remaining lines, and close the sockets."""
        if self._ours is not None:
            self.read()
            self._ours.close()
            self._theirs.close()
            self._ours, self.ends = None, []

    def read(self) -> None:
        """Write a line for each job that workers have reported."""
        while self._ours is not None:
            try:
                data = self._ours.recv(_MAX_BYTES)
            except OSError:
                return
            self._take(data)

    def lost(self, job: int, how: str, seconds: float) -> None:
        """Write a line for a job whose worker has died."""
        if job and self._ours is not None:
            self.read()  # first write the lines of earlier jobs
            self._write(job, "", f"its worker ended: {how}", seconds)

    def _take(self, data: bytes) -> None:
        match json_object(data):  # user code has the socket as well, and could send anything
            case {"job": int(job), "what": str(what), "status": str(status), "seconds": float(seconds)} if (
                math.isfinite(seconds)
            ):
                self._write(job, what, status, seconds)

    def _write(self, job: int, what: str, status: str, seconds: float) -> None:
        named: dict[str, Field] = {"what": what} if what else {}
        fields = {**self._fields, **named, "status": status, "seconds": seconds}
        write(log, logging.DEBUG, ("job %d", job), fields, {"event": "job", "job": job})
