"""What is wrong in the users' file, in the log: when the server starts, and when the file has changed.

Sessions read the file anew at each login and pass over lines that cannot be used: their users look like unknown ones.
So the daemon says it, once for each change.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pserver.accounts.account import without_account
from pserver.daemon.missing_users import no_users
from srp_tools.errors import CredentialError
from srp_tools.printable import printable_name
from srp_tools.verifier import fingerprint_of
from srp_tools.verifier_file import VerifierFile

log = logging.getLogger("pserver")

_LOOK_SECONDS = 5.0  # between two looks for the status; each login looks, too
_MAX_NAMES = 10
_MAX_LINES = 20  # of a file that is another kind of file


def missing_users(users: Iterable[str], allowed: Sequence[str]) -> str:
    """Return a warning of allowed users who are not among those of the file of verifiers; empty if all are."""
    known = set(users)
    missing = [user for user in allowed if user not in known]
    more = f" and {len(missing) - _MAX_NAMES} more" if len(missing) > _MAX_NAMES else ""
    names = ", ".join(printable_name(repr(user)) for user in missing[:_MAX_NAMES])
    return f"--allow-users: {names}{more} cannot log in: not in the users' file" if missing else ""


class UserFileWatch:
    """Checks the file of verifiers, and writes to the log what is wrong with it.

    `path`: ``None``: there are no users. `allowed`: those who may log in, if not all. `on_change`: called after each
    look that has found another file. `accounts`: the names of their Unix accounts, where these are not their own names;
    ``None``: all sessions have the account of the server.
    """

    def __init__(
        self,
        path: Path | None,
        allowed: Sequence[str] = (),
        on_change: Callable[[], object] = lambda: None,
        accounts: Mapping[str, str] | None = None,
    ) -> None:
        self._allowed = allowed
        self._on_change = on_change
        self._accounts = accounts
        self._file = None if path is None else VerifierFile(path)
        self._seen: object = None
        self._fingerprint: str | None = None
        #: The salt of each user's verifier, at the last look: another verifier has another one.
        self.salts: Mapping[str, bytes] = {}

    def reconfigure(self, allowed: Sequence[str], accounts: Mapping[str, str] | None) -> None:
        """Check the file anew, with other users who may log in and other accounts.

        Raises `CredentialError` if it cannot be read. Then nothing has changed.
        """
        if self._file is not None:
            self._file.examine()
        self._allowed, self._accounts, self._seen = allowed, accounts, None
        self.look()

    def facts(self) -> dict[str, object] | None:
        """Return which file it is, and its fingerprint at the last look; ``None`` if there are no users."""
        if self._file is None:
            return None
        return {"file": str(self._file.path), "fingerprint": self._fingerprint}

    def account_name(self, user: str) -> str:
        """Return the name of the account of a user; there may be none of that name."""
        return user if self._accounts is None else self._accounts.get(user, user)

    def step(self) -> float:
        """Look; return in how many seconds to look again."""
        self.look()
        return _LOOK_SECONDS

    def look(self) -> None:
        """Log what is wrong, if the file is not as it was at the last look."""
        if self._file is None or (stamp := self._file.stamp()) == self._seen:
            return
        self._seen = stamp
        self._fingerprint = None
        self._examine(self._file)
        self._on_change()

    def _examine(self, file: VerifierFile) -> None:
        try:
            users, salts, faults = file.examine()
        except CredentialError as error:
            log.error("no user can log in: %s", error if file.path.exists() else no_users(file.path))
            return
        self._fingerprint, self.salts = fingerprint_of(salts), dict(salts)
        log.info(
            "the users' file %s has the fingerprint %s; if a right password is refused, compare it with that which "
            "generate-srp-data --fingerprint prints where the file was made",
            file.path,
            self._fingerprint,
        )
        if missing := missing_users(users, self._allowed):
            log.warning("%s", missing)
        if self._accounts is not None:
            for text in list(without_account(self._accounts, users).values())[:_MAX_LINES]:
                log.warning("%s", text)
        for fault in faults[:_MAX_LINES]:
            log.warning("in the users' file: %s", fault)
        if len(faults) > _MAX_LINES:
            log.warning("in the users' file: %d more lines cannot be used", len(faults) - _MAX_LINES)
