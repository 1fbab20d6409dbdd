"""Systemd's verdict on our units, without starting anything."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.waiting import DEADLINE

_is_missing = shutil.which("systemd-analyze") is None and not os.environ.get("CI")
needs_systemd = pytest.mark.skipif(_is_missing, reason="needs systemd-analyze, from Debian's package systemd")


def verify(text: str, folder: Path, *, is_system: bool, name: str = "pserver.service") -> str:
    """Return the faults of a unit, or an empty text."""
    path = folder / name
    path.write_text(text)
    manager = "--system" if is_system else "--user"
    command = ["systemd-analyze", manager, "--man=no", "verify", str(path)]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}  # an account's service manager needs one
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE, check=False, env=environment
    )
    # Faults of this machine's other units do not matter here.
    lines = [line for line in done.stderr.splitlines() if path.stem in line]
    return "\n".join(lines) or ("" if not done.returncode else done.stderr)


def exposure(text: str, folder: Path) -> float:
    """Return the exposure level of a unit, from 0 to 10."""
    path = folder / "pserver.service"
    path.write_text(text)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])
