"""The private folder of a session; see `pserver.services.files`."""

from pserver.services.files import session_files

__all__ = ["session_files"]
