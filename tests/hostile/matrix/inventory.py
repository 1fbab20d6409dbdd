"""A server's resources: checks that it releases them, and that no process spins."""

import contextlib
import os
import time
from typing import Any

import psutil

from tests.hostile.matrix.cast import find_session
from tests.hostile.matrix.house import House
from tests.support.waiting import wait_until

# A spinning process takes a whole processor, or as much of it as other processes leave.
_CPU_WINDOW, _CPU_SHARE = 0.2, 0.2
_OWN_PROCESSES = 2  # processes of a server without clients: the daemon and the starter of sessions
_SPARE_DESCRIPTORS = 8  # descriptors of the daemon for the bystander's workers, which come and go


class Inventory:
    """A server's resources besides its bystander: the same at the beginning and after each cell."""

    def __init__(self, house: House, bystander: str) -> None:
        self._house = house
        self._bystander = bystander
        self._before: dict[str, Any] = {}
        wait_until(self._is_alone, "the end of the first visit")

    def _is_alone(self) -> bool:
        # Keep this look and do not look again: workers of the bystander that are just ending sometimes count.
        self._before = self._look()
        # A status may be older than the end of a session.
        is_alone: bool = self._before.get("sessions") == [self._bystander]
        return is_alone and self._before["processes"] == _OWN_PROCESSES

    def compare(self) -> None:
        """Wait until a cell has left nothing behind."""
        differs: dict[str, Any] = {}

        def is_as_before() -> bool:
            now = self._look()
            differs.clear()
            differs.update(
                {what: (was, now.get(what)) for what, was in self._before.items() if now.get(what) != was}
            )
            spare = now.get("descriptors", 10**6) - self._before["descriptors"]
            if spare <= _SPARE_DESCRIPTORS:
                differs.pop("descriptors", None)
            return not differs

        try:
            wait_until(is_as_before, "the release of everything that a cell has made", 10.0)
        except AssertionError as error:
            there = [_command_line(pid) for pid in self._house.processes() - self._of_bystander()]
            raise AssertionError(f"before and after: {differs}; processes: {there}") from error

    def _look(self) -> dict[str, Any]:
        house = self._house
        assert house.process is not None
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            return {
                "processes": len(house.processes() - self._of_bystander()),
                "sessions": [session["network"] for session in house.sessions()],
                "run": sorted(path.name for path in house.disk("run").rglob("*")),
                "tmp": sorted(path.name for path in house.disk("tmp").iterdir()),
                "spool": sorted(path.name for path in house.disk("spool").glob("*/kept/*")),
                "client": sorted(path.name for path in house.disk("client").iterdir()),
                "shared memory": sum(
                    entry.stat().st_uid in {house.account, house.account + 1}
                    for entry in os.scandir("/dev/shm")
                ),
                "descriptors": psutil.Process(house.process.pid).num_fds(),
            }
        return {}

    def _of_bystander(self) -> set[int]:
        session = find_session(self._house, self._bystander)
        return {session, *self._house.descendants(session)}


def wait_quiet(house: House) -> None:
    """Wait until all processes of a server are idle."""

    def is_quiet() -> bool:
        before = {pid: _cpu_seconds(pid) for pid in house.processes()}
        time.sleep(_CPU_WINDOW)
        spent = [_cpu_seconds(pid) - seconds for pid, seconds in before.items()]
        return max(spent, default=0.0) < _CPU_SHARE * _CPU_WINDOW

    wait_until(is_quiet, "the server's processes to be quiet", 5.0)


def _command_line(pid: int) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return f"{pid}, child of {process.ppid()}, {process.status()}: {' '.join(process.cmdline())}"
    return f"{pid}, ended"


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0
