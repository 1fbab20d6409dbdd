"""The version of the packages, and their own imports, which ignore the current folder."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

import pconnect
import pserver
import pserver.cli
import srp_tools
import srp_tools.cli
from srp_tools.packages import distribution_version, import_own, missing_packages, own_imports, safe_path

INSTALLED = importlib.metadata.version("pserver")


@pytest.mark.parametrize("package", [srp_tools, pconnect, pserver])
def test_each_package_has_the_version(package: ModuleType) -> None:
    assert package.__version__ == INSTALLED == distribution_version()
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize(
    ("main", "name"), [(pserver.cli.main, "pserver"), (srp_tools.cli.main, "generate-srp-data")]
)
def test_each_command_shows_it(
    main: Callable[[Sequence[str]], int], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"{name} {INSTALLED}\n", "")


def test_a_package_can_be_imported_without_reading_metadata() -> None:
    code = "import sys, pconnect, pserver.cli, srp_tools.cli; sys.exit('importlib.metadata' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change to a folder with modules that is on the path under every name that it can have there."""
    names = ["planted_one", "planted_two"]
    for name in names:
        (tmp_path / f"{name}.py").write_text("")
    link = tmp_path / "link"
    link.symlink_to(".")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", str(tmp_path), str(link), *sys.path])
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


def test_the_current_folder_is_left_out(planted: Path) -> None:
    with pytest.raises(ModuleNotFoundError):
        import_own("planted_one")
    found = importlib.import_module("planted_one")
    assert Path(str(found.__file__)).resolve().parent == planted
    assert import_own("planted_one") is found  # it has run already


def test_what_was_added_later_is_left_out(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    with pytest.raises(ModuleNotFoundError):
        import_own("planted_one")
    assert not any(entry.startswith(str(planted)) for entry in safe_path())


def test_what_is_imported_on_the_way_too(planted: Path) -> None:
    (planted / "colorsys.py").write_text("raise AssertionError('planted')")
    sys.modules.pop("colorsys", None)
    with own_imports():
        import colorsys

    assert Path(colorsys.__file__).parent == Path(os.__file__).parent


@pytest.mark.usefixtures("planted")
def test_other_threads_import_as_ever() -> None:
    found = []
    with own_imports():
        thread = threading.Thread(target=lambda: found.append(importlib.import_module("planted_two")))
        thread.start()
        thread.join()
        with own_imports():
            pass
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("planted_one")
    assert [module.__name__ for module in found] == ["planted_two"]


def test_a_current_folder_that_is_gone(planted: Path) -> None:
    folder = planted / "gone"
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    with pytest.raises(ModuleNotFoundError):
        import_own("planted_one")
    os.chdir(planted)
    assert import_own("json").dumps(1) == "1"


def test_packages_that_are_missing_are_named_and_none_is_imported() -> None:
    assert missing_packages(["this", "no_such_package"]) == ["no_such_package"]
    assert "this" not in sys.modules
