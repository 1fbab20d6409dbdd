"""What tests do at machines as the tutorial says: its source tree, its environment, and its lines."""

import shutil
import sys
from pathlib import Path

from tests.support.machines import Machine
from tests.support.pages import check

ROOT = Path(__file__).parent.parent.parent
PASSWORD = ("New password for alice (empty: make a random one): ", "\n")
# pip installs the package itself, and finds that the rest is there already. "0" switches isolation off.
WITHOUT_INDEX = {
    "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_PROGRESS_BAR": "off",
}  # fmt: skip


def copy_source(folder: Path) -> None:
    """Copy what the package is made of, without what has been built already."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("srp_tools", "pconnect", "pserver"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)


def lend_packages(environment: Path) -> None:
    """Let an environment find the packages of that of the tests, behind its own."""
    folder = next(environment.glob("lib/python*/site-packages"))
    # The setuptools that some versions of Python bring along is too old; else pip fetches another to build with.
    for path in (*folder.glob("setuptools*"), *folder.glob("pkg_resources*")):
        shutil.rmtree(path)
    (folder / "lent.pth").write_text(
        "".join(f"{each}\n" for each in sys.path if each.endswith("site-packages"))
    )


def type_at(machine: Machine, line: str, said: str, place: str) -> None:
    """Run one line and compare what it shows."""
    shown = machine.run(line, [PASSWORD]).replace(str(machine.home), "/home/alice")
    check(f"{place}, {machine.name}$ {line}", said, shown)
    if "-m venv" in line:
        lend_packages(machine.home / "pserver-env")
