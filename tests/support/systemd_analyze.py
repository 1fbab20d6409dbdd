"""What systemd says of a unit that we write; nothing is started for that."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.waiting import DEADLINE

_is_missing = shutil.which("systemd-analyze") is None and not os.environ.get("CI")
needs_systemd = pytest.mark.skipif(_is_missing, reason="needs systemd-analyze, of Debian's package systemd")


def verify(text: str, folder: Path, *, is_system: bool, name: str = "pserver.service") -> str:
    """Return what is wrong with a unit; empty if nothing is."""
    path = folder / name
    path.write_text(text)
    manager = "--system" if is_system else "--user"
    command = ["systemd-analyze", manager, "--man=no", "verify", str(path)]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(folder)}  # the manager of an account asks for one
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE, check=False, env=environment
    )
    # What is wrong with units of this machine is not ours.
    lines = [line for line in done.stderr.splitlines() if path.stem in line]
    return "\n".join(lines) or ("" if not done.returncode else done.stderr)


def exposure(text: str, folder: Path) -> float:
    """Return how much a unit is exposed, from 0 to 10."""
    path = folder / "pserver.service"
    path.write_text(text)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])
