"""Start, find and stop servers; see `pserver.admin.control`."""

from pserver.admin.control import pserver

__all__ = ["pserver"]
