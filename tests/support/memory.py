"""How far the memory of this process grows while something is done: of the system's count, not of Python's."""

import re
from pathlib import Path


class Peak:
    """The peak of memory from here on; ``grown`` tells it in bytes."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: proc(5)
        self._before = _status("VmRSS")

    @property
    def grown(self) -> int:
        return _status("VmHWM") - self._before


def _status(field: str) -> int:
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) * 1024
