"""Keeps the process of the server's page alive, see `pserver.page.child`. The daemon never waits for it.

If it dies, or cannot begin, there is another one after a pause, which grows. The log says so.
"""

import contextlib
import json
import logging
import os
import selectors
import socket
import subprocess
import sys
import time

from pserver.accounts.privileges import common_environment
from pserver.config.server_config import ServerConfig
from pserver.daemon.callback_selector import LoopPart
from pserver.system.processes import describe_exit
from pserver.system.runtime_dir import OWN_VARIABLE

log = logging.getLogger("pserver")

_PAUSES = (1.0, 5.0, 30.0)  # seconds before another one, by how many have died soon
_STABLE_SECONDS = 60.0  # one that lived so long has not died "again"
_END_SECONDS = 2.0
_REAP_SECONDS = 0.1  # between two looks whether one has ended that has closed its end
_MOST_BYTES = 4096


class StatusPage:
    """The process of the page, if the settings have one; `selector`: the daemon's. It ends with `stack`."""

    def __init__(
        self, config: ServerConfig, selector: selectors.BaseSelector, stack: contextlib.ExitStack
    ) -> None:
        self._config = config
        self._selector = selector
        self._process: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._due: float | None = None if config.status_page is None else time.monotonic()
        self._began = 0.0
        self._deaths = 0
        stack.callback(self.close)

    def loop_part(self) -> LoopPart:
        """Return what the daemon's loop is to look after."""
        return LoopPart("page", self.step, self.time_left)

    def time_left(self) -> float | None:
        """Return in how many seconds `step` has something to do; ``None``: not before something happens."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def step(self) -> None:
        """Start the process if it is time, and the one before has ended."""
        if self._due is None or time.monotonic() < self._due:
            return
        self._due = None
        if self._process is not None:
            self._reap(self._process)
            return
        try:
            self._start()
        except OSError as error:
            log.error("the page cannot be started: %s", error)
            self._try_again()

    def _start(self) -> None:
        config = self._config
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-X", "utf8", "-m", "pserver.page.child"),
                        f"--name={config.name}",
                        f"--address={config.status_page}",
                        f"--daemon-fd={theirs.fileno()}",
                        *([f"--token-file={config.status_page_token}"] if config.status_page_token else []),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                    pass_fds=[theirs.fileno()],
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._sock, self._began = ours, time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, self._hear)

    def _hear(self) -> None:
        assert self._sock is not None  # noqa: S101 - it is what has something to say
        try:
            data = self._sock.recv(_MOST_BYTES)
        except OSError:
            data = b""
        if not data:
            self._leave()
            self._due = time.monotonic() + _REAP_SECONDS  # it has ended, or is about to
            return
        with contextlib.suppress(ValueError):  # its own words are short, and arrive at once
            match json.loads(data):
                case {"at": str(where)}:
                    log.info("the page is at %s; pserver status shows its address with the token", where)
                case {"error": str(why)}:
                    log.error("there is no page: %s", why)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Reap the process, which has closed its end; one that hangs is waited for by no step."""
        code = process.poll()
        if code is None:
            process.kill()
            self._due = time.monotonic() + _REAP_SECONDS
            return
        self._process = None
        if time.monotonic() - self._began > _STABLE_SECONDS:
            self._deaths = 0
        log.warning("the process of the page has ended: %s", describe_exit(code))
        self._try_again()

    def _try_again(self) -> None:
        self._due = time.monotonic() + _PAUSES[min(self._deaths, len(_PAUSES) - 1)]
        self._deaths += 1

    def _leave(self) -> None:
        if self._sock is not None:
            self._selector.unregister(self._sock)
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        """End the process, and start no other."""
        self._due = None
        self._leave()
        process, self._process = self._process, None
        if process is None:
            return
        for end in (process.terminate, process.kill):
            end()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
                return
        log.error("the process of the page (%d) does not end", process.pid)


def _environment() -> dict[str, str]:
    """Return what the process needs to know; passwords, which may be among our variables, are none of its business."""
    more = {
        name: os.environ[name] for name in ("HOME", "XDG_RUNTIME_DIR", OWN_VARIABLE) if name in os.environ
    }
    return common_environment() | more
