"""What is wrong in the users' file, in the log: when the server starts, and when the file has changed.

Sessions read the file anew at each login and pass over lines that cannot be used: their users look like unknown ones.
So the daemon says it, once for each change.
"""

import logging
import os
import pwd
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from pserver.accounts.account import read_map, without_account
from pserver.config.server_config import ServerConfig
from pserver.daemon.missing_users import no_users
from srp_tools.credentials import is_member
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.printable import printable_name
from srp_tools.private_files import server_file
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


def check_users(config: ServerConfig, users: Sequence[str]) -> None:
    """Refuse users who have no account, or who would share one without ``--shared-account``.

    `users`: those in the file of verifiers; members have no sessions. Raises `ConfigurationError`.
    """
    people = [user for user in users if not is_member(user)]
    able = [user for user in people if not config.allow_users or user in config.allow_users]
    if config.has_accounts:
        missing = without_account(read_map(config.account_map), able)
        if able and len(missing) == len(able):
            raise ConfigurationError(
                f"no user can log in: {'; '.join(missing.values())}; make the accounts, or name others in a file for "
                "--account-map"
            )
    elif len(able) > 1 and not config.shared_account:
        account = pwd.getpwuid(os.geteuid()).pw_name
        raise ConfigurationError(
            f"{len(able)} users could log in, and all their sessions would run under the account {account!r}: each of "
            "them could read and change what the others have, add users, and end the server. If you want that, start "
            "with --shared-account; to let in one of them, with --allow-users NAME; for accounts of their own, start "
            "the server as root"
        )


def _may_share(config: ServerConfig) -> bool:
    """Whether it does no harm if more users come to the file: they have accounts of their own, or may share one."""
    return config.has_accounts or config.shared_account or not config.use_tls


def _accounts(config: ServerConfig) -> Mapping[str, str] | None:
    return read_map(config.account_map) if config.has_accounts else None


class UserFileWatch:
    """Checks the file of verifiers, and writes to the log what is wrong with it.

    `path`: ``None``: there are no users. `allowed`: those who may log in, if not all. `on_change`: called after each
    look that has found another file. `accounts`: the names of their Unix accounts, where these are not their own names;
    ``None``: all sessions have the account of the server. `is_shared`: several users may have that; else those who
    come to the file later are not let in.
    """

    def __init__(
        self,
        path: Path | None,
        allowed: Sequence[str] = (),
        on_change: Callable[[], object] = lambda: None,
        accounts: Mapping[str, str] | None = None,
        *,
        is_shared: bool = True,
    ) -> None:
        self._is_shared = is_shared
        self._admitted: frozenset[str] = frozenset()  # of those who would share an account
        self._allowed = allowed
        self._on_change = on_change
        self._accounts = accounts
        self._file = None if path is None else VerifierFile(path)
        self._seen: object = None
        self._fingerprint: str | None = None
        #: The salt of each user's verifier, at the last look: another verifier has another one.
        self.salts: Mapping[str, bytes] = {}

    @classmethod
    def of(cls, config: ServerConfig, on_change: Callable[[], object]) -> Self:
        """Return what checks the file of a server."""
        path = Path(config.auth_file or server_file()) if config.use_tls else None
        return cls(path, config.allow_users, on_change, _accounts(config), is_shared=_may_share(config))

    @property
    def path(self) -> Path | None:
        """Where the file is."""
        return None if self._file is None else self._file.path

    def reconfigure(self, config: ServerConfig) -> None:
        """Check the file anew, with other users who may log in and other accounts.

        Raises `CredentialError` if it cannot be read, and `ConfigurationError` as `check_users` does. Then nothing has
        changed.
        """
        if self._file is not None:
            check_users(config, self._file.examine().users)
        self._allowed, self._accounts, self._seen = config.allow_users, _accounts(config), None
        self._is_shared, self._admitted = _may_share(config), frozenset()
        self.look()

    def facts(self) -> dict[str, object] | None:
        """Return which file it is, and its fingerprint at the last look; ``None`` if there are no users."""
        if self._file is None:
            return None
        return {"file": str(self._file.path), "fingerprint": self._fingerprint}

    def refusal(self, user: str) -> str:
        """Return why a user who has logged in may not stay; empty if there is no reason."""
        return self.removal(user) or self.sharing(user)

    def removal(self, user: str) -> str:
        """Return why somebody is no user any more; empty if there is no reason."""
        if self._file is None:
            return ""
        self.look()  # the login has read the file itself
        if self._allowed and user not in self._allowed:
            return "this user may not log in to the server any more (--allow-users)"
        if user not in self.salts:
            return "this user was removed from the server"
        return ""

    def sharing(self, user: str) -> str:
        """Return why a user may not share the account of the server; empty if there is no reason."""
        if self._is_shared or user in self._admitted or is_member(user):
            return ""
        return (
            "the server has one account for all sessions and was started for other users; its administrator can let "
            "several users share it with --shared-account"
        )

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
        people = frozenset(user for user in users if not is_member(user))
        known = people & self.salts.keys()
        self._admit(known & set(self._allowed) if self._allowed else known)
        log.info(
            "the users' file %s has the fingerprint %s; if a right password is refused, compare it with that which "
            "generate-srp-data --fingerprint prints where the file was made",
            file.path,
            self._fingerprint,
        )
        if missing := missing_users(users, self._allowed):
            log.warning("%s", missing)
        if self._accounts is not None:
            for text in list(without_account(self._accounts, sorted(people)).values())[:_MAX_LINES]:
                log.warning("%s", text)
        for fault in faults[:_MAX_LINES]:
            log.warning("in the users' file: %s", fault)
        if len(faults) > _MAX_LINES:
            log.warning("in the users' file: %d more lines cannot be used", len(faults) - _MAX_LINES)

    def _admit(self, able: frozenset[str]) -> None:
        """Keep to those who could log in before, if now there are several and they would share an account."""
        if self._is_shared or len(able) <= 1:
            self._admitted = able
        elif others := able - self._admitted:
            shown = ", ".join(printable_name(repr(user)) for user in sorted(others)[:_MAX_NAMES])
            log.error(
                "not let in, because they would share the server's account: %s; see --shared-account", shown
            )
