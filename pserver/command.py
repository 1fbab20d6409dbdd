"""The command `pserver`, on any system: servers run on Linux, and nothing of them can be loaded elsewhere."""

import importlib
import sys
from collections.abc import Sequence

_UNAVAILABLE = 69  # of sysexits.h


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, as `pserver.cli.main` does; on another system say that it is not there, and return 69."""
    if sys.platform != "linux":
        print(  # noqa: T201 - the command's own message
            f"pserver: servers run on Linux only, and this is {sys.platform}; to use servers elsewhere, "
            "from Python: pconnect.pconnect(hosts)",
            file=sys.stderr,
        )
        return _UNAVAILABLE
    status: int = importlib.import_module("pserver.cli").main(argv)
    return status
