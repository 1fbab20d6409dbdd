"""Keeps the process of the status page running, see `pserver.page.child`. The daemon never waits for it.

If the process dies or cannot start, the daemon logs this, and starts another one after a growing pause.
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

_PAUSES = (1.0, 5.0, 30.0)  # seconds before another process, by the number of recent deaths
_STABLE_SECONDS = 60.0  # after this time, a death does not count as another one in a row
_END_SECONDS = 2.0
_REAP_SECONDS = 0.1  # between two checks whether the process has ended, once it has closed its socket
_MOST_BYTES = 4096


class StatusPage:
    """The process of the page, if the settings ask for a page; `selector`: the daemon's. It ends with `stack`."""

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
        """Return the part for the daemon's loop."""
        return LoopPart("page", self.step, self.time_left)

    def time_left(self) -> float | None:
        """Return the seconds until `step` has something to do; ``None``: not before an event."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def step(self) -> None:
        """Start the process if that is due and the previous one has ended."""
        if self._due is None or time.monotonic() < self._due:
            return
        self._due = None
        if self._process is not None:
            self._reap(self._process)
            return
        try:
            self._start()
        except OSError as error:
            log.error("cannot start the status page: %s", error)
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
        assert self._sock is not None  # noqa: S101 - it has become readable
        try:
            data = self._sock.recv(_MOST_BYTES)
        except OSError:
            data = b""
        if not data:
            self._leave()
            self._due = time.monotonic() + _REAP_SECONDS  # it has ended, or is about to
            return
        with contextlib.suppress(ValueError):  # its messages are short, so each arrives whole
            match json.loads(data):
                case {"at": str(where)}:
                    log.info("the page is at %s; pserver status shows its address with the token", where)
                case {"error": str(why)}:
                    log.error("there is no page: %s", why)

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        """Reap the process, which has closed its socket, without waiting; kill it if it has not ended."""
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
        """End the process, and start no other one."""
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
    """Return the variables that the process needs; others may be secret, such as passwords."""
    more = {
        name: os.environ[name] for name in ("HOME", "XDG_RUNTIME_DIR", OWN_VARIABLE) if name in os.environ
    }
    return common_environment() | more
