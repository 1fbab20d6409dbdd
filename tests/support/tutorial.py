"""The tutorial's steps on the machines of a test: its source tree, its environment, and its lines."""

import shutil
import sys
from pathlib import Path

from tests.support.machines import Machine
from tests.support.pages import check

ROOT = Path(__file__).parent.parent.parent
PASSWORD = ("New password for alice (empty: make a random one): ", "\n")
# pip installs only the package itself: its requirements are already there. "0" disables build isolation.
WITHOUT_INDEX = {
    "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_PROGRESS_BAR": "off",
}  # fmt: skip


def copy_source(folder: Path) -> None:
    """Copy the package's sources, without build products."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("srp_tools", "pconnect", "pserver"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)


def lend_packages(environment: Path) -> None:
    """Let an environment find the packages of the tests' environment, after its own."""
    folder = next(environment.glob("lib/python*/site-packages"))
    # Some versions of Python include a setuptools that is too old; otherwise pip would fetch one to build with.
    for path in (*folder.glob("setuptools*"), *folder.glob("pkg_resources*")):
        shutil.rmtree(path)
    (folder / "lent.pth").write_text(
        "".join(f"{each}\n" for each in sys.path if each.endswith("site-packages"))
    )


def type_at(machine: Machine, line: str, said: str, place: str) -> None:
    """Run one line and compare its output with the page's."""
    shown = machine.run(line, [PASSWORD]).replace(str(machine.home), "/home/alice")
    check(f"{place}, {machine.name}$ {line}", said, shown)
    if "-m venv" in line:
        lend_packages(machine.home / "pserver-env")
