"""The command `pserver` on any system: servers run only on Linux, and their modules cannot be loaded elsewhere."""

import importlib
import sys
from collections.abc import Sequence

_UNAVAILABLE = 69  # of sysexits.h


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `pserver.cli.main`; on other systems, print an error and return 69."""
    if sys.platform != "linux":
        print(  # noqa: T201 - the command's own message
            f"pserver: servers run on Linux only, and this is {sys.platform}; to use servers on other machines, "
            "call pconnect.pconnect(hosts) in Python",
            file=sys.stderr,
        )
        return _UNAVAILABLE
    status: int = importlib.import_module("pserver.cli").main(argv)
    return status
