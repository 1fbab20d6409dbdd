"""The server: a daemon that runs the computations of authenticated clients on this machine."""

import sys

from srp_tools.packages import module_attribute

if sys.platform == "linux":
    from pserver.admin.control import pserver

__all__ = ["pserver"]

__version__: str


def __getattr__(name: str) -> str:
    if name == "pserver":
        raise ImportError(f"servers run on Linux only, and this is {sys.platform}")
    return module_attribute(__name__, name)
