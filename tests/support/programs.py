"""Programs and packages that tests compare with or need; `.ci/run` installs them."""

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program. Where its Debian package is missing the test is skipped, but in CI it fails."""
    path = shutil.which(name)
    if path is None:
        _leave_out(f"the program {name} is missing: install the Debian package {package}")
    return str(path)


def module(name: str) -> ModuleType:
    """Return a module of a package that tests need; where it is missing, the same."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _leave_out(f"the module {name} is missing: install the extra dev, and what .ci/run adds to it")


def _leave_out(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
