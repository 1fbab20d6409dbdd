"""The server: a daemon that lets those who know a password compute on this machine."""

from pserver.admin.control import pserver
from srp_tools.packages import module_attribute

__all__ = ["pserver"]

__version__: str


def __getattr__(name: str) -> str:
    return module_attribute(__name__, name)
