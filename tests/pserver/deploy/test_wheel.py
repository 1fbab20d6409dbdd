"""The wheel of the running package: pip can install it, and it contains the installed files."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pserver.deploy.wheel import make_wheel

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a separate folder."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = make_wheel()
    (folder / wheel.name).write_bytes(wheel.data)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", folder / "there", folder / wheel.name], check=True, timeout=60)
    return folder / "there"


def test_what_is_installed_is_what_runs_here(installed: Path) -> None:
    for package in ("srp_tools", "pconnect", "pserver"):
        ours = {path.relative_to(ROOT): path.read_bytes() for path in (ROOT / package).rglob("*.py")}
        theirs = {
            path.relative_to(installed): path.read_bytes() for path in (installed / package).rglob("*.py")
        }
        assert ours == theirs
        assert (installed / package / "py.typed").exists()
    page = "pserver/page/static"
    assert sorted(path.name for path in (installed / page).iterdir()) == sorted(
        path.name for path in (ROOT / page).iterdir()
    )


def test_it_has_commands_version_and_dependencies(installed: Path) -> None:
    ask = (
        "from importlib.metadata import distribution as d; p = d('pserver');"
        "print(p.version, sorted(e.name for e in p.entry_points), any('numpy' in r for r in p.requires))"
    )
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(installed)!r}); {ask}"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    version = make_wheel().name.split("-")[1]
    assert said.stdout == f"{version} ['generate-srp-data', 'pserver', 'pshadow', 'pstat'] True\n"


def test_what_was_installed_from_it_makes_the_same_wheel(installed: Path) -> None:
    ask = "import pserver, pserver.deploy.wheel as w; print(w.make_wheel().digest(), pserver.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", ask],
        env=os.environ | {"PYTHONPATH": str(installed)},
        cwd=installed, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert said.stdout.split() == [make_wheel().digest(), str(installed / "pserver/__init__.py")]


def test_a_build_in_the_current_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_wheel()
    folder = tmp_path / "pserver.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: pserver\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert make_wheel() == before


def test_the_same_files_make_the_same_wheel(tmp_path: Path) -> None:
    first, second = make_wheel(), make_wheel()
    assert first.digest() == second.digest()
    path = tmp_path / first.name
    path.write_bytes(first.data)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert len(set(names)) == len(names)
    assert not any("direct_url" in name or "INSTALLER" in name for name in names)
