"""The growth of this process's memory during an action, by the system's count rather than Python's."""

import re
from pathlib import Path


class Peak:
    """The peak of memory from now on; ``grown`` returns its growth in bytes."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak: proc(5)
        self._before = _status("VmRSS")

    @property
    def grown(self) -> int:
        return _status("VmHWM") - self._before


def _status(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024
