"""Run the tests of JAX arrays in a separate process, because JAX warns at every later fork."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_its_arrays_are_values() -> None:
    # Without the options that would prevent importing this file beside others.
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command = [sys.executable, "-m", "pytest", *options, "tests/support/jax_cases.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
