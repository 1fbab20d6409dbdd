"""Versions of Python and packages on all nodes; see `pconnect.session.versions`."""

from pconnect.session.versions import Versions, VersionWarning, check_versions, versions

__all__ = ["VersionWarning", "Versions", "check_versions", "versions"]
