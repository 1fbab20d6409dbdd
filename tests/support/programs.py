"""Programs of the system that tests compare with or need; `.ci/run` installs them."""

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """Return the path of a program. Where its Debian package is missing the test is skipped, but in CI it fails."""
    path = shutil.which(name)
    if path is None:
        reason = f"the program {name} is missing: install the Debian package {package}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
