"""The version of this distribution, which its three packages and two commands have in common."""

import argparse
import functools
import sys
from typing import Any


@functools.cache
def distribution_version() -> str:
    """Return the version that is installed."""
    # Late: importing it takes longer than all else that a command needs, and few ask for the version.
    import importlib.metadata  # noqa: PLC0415

    return importlib.metadata.version("pserver")


def module_attribute(module: str, name: str) -> str:
    """Be the ``__getattr__`` of a package that has `__version__`, see PEP 562.

    Raises `AttributeError` if another name is asked for.
    """
    if name != "__version__":
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return distribution_version()


class ShowVersion(argparse.Action):
    """The option ``--version`` of a command: prints its name and the version, and ends it."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(
            option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="show the version and exit"
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the version."""
        sys.stdout.write(f"{parser.prog} {distribution_version()}\n")
        parser.exit()
