"""Programs and packages that tests need or compare with; `.ci/run` installs them."""

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program. If its Debian package is missing, skip the test, but fail in CI."""
    path = shutil.which(name)
    if path is None:
        _leave_out(f"the program {name} is missing: install the Debian package {package}")
    return str(path)


def module(name: str) -> ModuleType:
    """Return a module of a package that tests need. If it is missing, skip the test, but fail in CI."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _leave_out(f"the module {name} is missing: install the extra dev, and what .ci/run adds to it")


def _leave_out(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)
