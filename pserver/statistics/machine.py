"""The state of the machine: load, memory and disk, as reported by the system."""

import os
from pathlib import Path
from typing import Any

from pserver.config.server_config import processor_count

_MEMORY = Path("/proc/meminfo")  # proc_meminfo(5)
_KEYS = {
    "memory_total": "MemTotal",
    "memory_free": "MemAvailable",
    "swap_total": "SwapTotal",
    "swap_free": "SwapFree",
}


def machine_facts(folder: Path) -> dict[str, Any]:
    """Return load, memory and disk in bytes; ``None`` for values that the system does not report.

    `folder`: a place on the disk in question; it need not exist. Free memory is the memory available without swapping;
    free disk space is the space available to accounts other than root.
    """
    return {
        "processors": processor_count(),
        "load": [round(each, 2) for each in os.getloadavg()],
        **_memory(),
        **_disk(folder),
    }


def _memory() -> dict[str, int | None]:
    try:
        lines = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines() if ":" in line)
    except OSError:
        lines = {}
    return {name: _bytes(lines.get(key, "")) for name, key in _KEYS.items()}


def _bytes(text: str) -> int | None:
    number = text.removesuffix("kB").strip()
    return int(number) * 1024 if number.isdigit() else None


def _disk(folder: Path) -> dict[str, int | None]:
    for place in (folder, *folder.parents):
        try:
            facts = os.statvfs(place)
        except OSError:  # it does not exist yet, or is not accessible
            continue
        return {"disk_total": facts.f_blocks * facts.f_frsize, "disk_free": facts.f_bavail * facts.f_frsize}
    return {"disk_total": None, "disk_free": None}
