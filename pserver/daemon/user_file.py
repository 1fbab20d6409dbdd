"""What is wrong in the users' file, in the log: when the server starts, and when the file has changed.

Sessions read the file anew at each login and pass over lines that cannot be used: their users look like unknown ones.
So the daemon says it, once for each change.
"""

import logging
from pathlib import Path

from srp_tools.errors import CredentialError
from srp_tools.verifier_file import VerifierFile

log = logging.getLogger("pserver")

_MAX_LINES = 20  # of a file that is another kind of file


class UserFileWatch:
    """Looks at the file of verifiers for whoever reads the log. `path`: ``None``: there are no users."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else VerifierFile(path)
        self._seen: object = None

    def look(self) -> None:
        """Log what is wrong, if the file is not as it was at the last look."""
        if self._file is None or (stamp := self._file.stamp()) == self._seen:
            return
        self._seen = stamp
        try:
            faults = self._file.faults()
        except CredentialError as error:
            log.error("nobody can log in: %s", error)
            return
        for fault in faults[:_MAX_LINES]:
            log.warning("in the users' file: %s", fault)
        if len(faults) > _MAX_LINES:
            log.warning("in the users' file: %d more lines cannot be used", len(faults) - _MAX_LINES)
