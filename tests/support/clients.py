"""Clients in their own processes, which tests can interrupt and kill."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_until

_BEGIN = """
import os, signal, sys, time
import numpy as np
from pconnect import *
def say(*words):
    print(*words, flush=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


# System call numbers of epoll_wait and epoll_pwait: x86-64, x86-64, 64-bit ARM.
EPOLL_CALLS = ("232", "281", "22")


class ClientProcess:
    """A client that runs a script, with a network `net` of one node on each of some servers.

    `options`: further options of `pconnect`.
    """

    def __init__(self, script: str, *servers: Server, **options: object) -> None:
        hosts = [server.host for server in servers]
        credentials = servers[0].credentials
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{_BEGIN}net = pconnect({hosts!r}, timeout=20, **{options!r})\n{script}"],
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=os.environ | {"PCONNECT_USER": credentials.user, "PCONNECT_PASSWORD": credentials.password},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def line(self, timeout: float = DEADLINE) -> str:
        """Return the next line that the script prints."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        deadline = time.monotonic() + timeout
        data = b""
        while not data.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            assert select.select([descriptor], [], [], left)[0], (
                f"timed out after {timeout:g} s waiting for a line: got only {data!r}"
            )
            byte = os.read(descriptor, 1)
            assert byte, f"the client ended (status {self.process.wait()}) after {data!r}"
            data += byte
        return data.decode().rstrip("\n")

    def interrupt_while_waiting(self) -> None:
        """Press Ctrl-C as soon as the client sleeps in the loop of its network."""
        wait_asleep(self.process.pid)
        self.process.send_signal(signal.SIGINT)


def wait_asleep(pid: int) -> None:
    """Wait until the main thread of a client sleeps in the loop of its network."""
    call = Path(f"/proc/{pid}/syscall")
    wait_until(lambda: call.read_text().split()[0] in EPOLL_CALLS, "the client's sleep")
