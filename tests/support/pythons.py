"""Another minor version of Python with this package, for clients and servers that differ from the tests."""

import fcntl
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def other_python() -> Path:
    """Return the newest Python of another minor version, in an environment with this package.

    The environment is beside that of the tests, and is made once. If there is no other Python, skip the test, but fail
    in CI.
    """
    found = subprocess.run([ROOT / ".ci/pythons"], capture_output=True, text=True, check=True).stdout
    others = dict(line.split(" ", 1) for line in found.splitlines())
    others.pop(f"{sys.version_info.major}.{sys.version_info.minor}", None)
    if not others:
        reason = "found no other minor version of Python from 3.11 up: install one, for example with pyenv"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    version, python = list(others.items())[-1]
    folder = Path(sys.prefix) / f"other-python-{version}"
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    with (Path(sys.prefix) / "other-python.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # if several test processes run, the first one makes it
        stamp = folder / "has"
        if not stamp.exists() or stamp.read_text() != repr(needed):
            subprocess.run([python, "-m", "venv", folder], check=True)
            pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--editable", str(ROOT), "joblib"], check=True)
            stamp.write_text(repr(needed))
    return folder / "bin/python"
