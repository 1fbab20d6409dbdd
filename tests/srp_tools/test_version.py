import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest

import pconnect
import pserver
import pserver.cli
import srp_tools
import srp_tools.cli
from srp_tools.version import distribution_version

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
