"""Logs the faults of the users' file, when the server starts and when the file changes.

Sessions read the file again at each login, and skip invalid lines: the users of these lines look like unknown users. So
the daemon reports the faults, once for each change.
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

_LOOK_SECONDS = 5.0  # between two checks for the status; each login checks, too
_MAX_NAMES = 10
_MAX_LINES = 20  # a file of another kind has many invalid lines


def missing_users(users: Iterable[str], allowed: Sequence[str]) -> str:
    """Return a warning about allowed users who are not in the users' file; empty if all of them are."""
    known = set(users)
    missing = [user for user in allowed if user not in known]
    more = f" and {len(missing) - _MAX_NAMES} more" if len(missing) > _MAX_NAMES else ""
    names = ", ".join(printable_name(repr(user)) for user in missing[:_MAX_NAMES])
    return f"--allow-users: {names}{more} cannot log in: not in the users' file" if missing else ""


def check_users(config: ServerConfig, users: Sequence[str]) -> None:
    """Check that the users who can log in have accounts, or may share the server's account.

    `users`: the users in the users' file; members of a pool have no sessions. Raises `ConfigurationError`.
    """
    people = [user for user in users if not is_member(user)]
    able = [user for user in people if not config.allow_users or user in config.allow_users]
    if config.has_accounts:
        missing = without_account(read_map(config.account_map), able)
        if able and len(missing) == len(able):
            raise ConfigurationError(
                f"no user can log in: {'; '.join(missing.values())}; create the accounts, or name other accounts in a "
                "file for --account-map"
            )
    elif len(able) > 1 and not config.shared_account:
        account = pwd.getpwuid(os.geteuid()).pw_name
        raise ConfigurationError(
            f"{len(able)} users could log in, and all their sessions would run under the account {account!r}: each "
            "user could read and change the files of the others, add users, and stop the server. If you want that, "
            "start with --shared-account; to let in only one user, with --allow-users NAME; to run each session under "
            "its user's account, start the server as root"
        )


def _may_share(config: ServerConfig) -> bool:
    """Whether users who are added to the file may log in: they have their own accounts, or may share one."""
    return config.has_accounts or config.shared_account or not config.use_tls


def _accounts(config: ServerConfig) -> Mapping[str, str] | None:
    return read_map(config.account_map) if config.has_accounts else None


class UserFileWatch:
    """Checks the users' file, and logs its faults.

    `path`: of the file; ``None``: the server has no users. `allowed`: the users who may log in; empty: all.
    `on_change`: called after each check that found a change. `accounts`: the users' Unix accounts, where the names
    differ; ``None``: all sessions run under the server's account. `is_shared`: whether several users may share that
    account; if not, users who are added to the file later cannot log in.
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
        self._admitted: frozenset[str] = frozenset()  # the users who may log in unless the account is shared
        self._allowed = allowed
        self._on_change = on_change
        self._accounts = accounts
        self._file = None if path is None else VerifierFile(path)
        self._seen: object = None
        self._fingerprint: str | None = None
        #: The salt of each user's verifier at the last check; a new verifier has a new salt.
        self.salts: Mapping[str, bytes] = {}

    @classmethod
    def of(cls, config: ServerConfig, on_change: Callable[[], object]) -> Self:
        """Make the watch for a server with this configuration."""
        path = Path(config.auth_file or server_file()) if config.use_tls else None
        return cls(path, config.allow_users, on_change, _accounts(config), is_shared=_may_share(config))

    @property
    def path(self) -> Path | None:
        """The path of the file; ``None`` if the server has no users."""
        return None if self._file is None else self._file.path

    def reconfigure(self, config: ServerConfig) -> None:
        """Apply a new configuration, and check the file again.

        Raises `CredentialError` if the file cannot be read, and `ConfigurationError` as `check_users` does. After an
        error, the old configuration still holds.
        """
        if self._file is not None:
            check_users(config, self._file.examine().users)
        self._allowed, self._accounts, self._seen = config.allow_users, _accounts(config), None
        self._is_shared, self._admitted = _may_share(config), frozenset()
        self.look()

    def facts(self) -> dict[str, object] | None:
        """Return the path of the file and its last fingerprint; ``None`` if the server has no users."""
        if self._file is None:
            return None
        return {"file": str(self._file.path), "fingerprint": self._fingerprint}

    def refusal(self, user: str) -> str:
        """Return why a user who has logged in may not stay; empty if the user may."""
        return self.removal(user) or self.sharing(user)

    def removal(self, user: str) -> str:
        """Return why a user has lost access; empty if the user still has it."""
        if self._file is None:
            return ""
        self.look()  # the login may have read a newer file
        if self._allowed and user not in self._allowed:
            return "this user may no longer log in to the server (--allow-users)"
        if user not in self.salts:
            return "this user was removed from the server"
        return ""

    def sharing(self, user: str) -> str:
        """Return why a user may not share the server's account; empty if the user may."""
        if self._is_shared or user in self._admitted or is_member(user):
            return ""
        return (
            "the server runs all sessions under one account, and was started for other users; its administrator can "
            "let several users share the account with --shared-account"
        )

    def account_name(self, user: str) -> str:
        """Return the name of a user's account, which may not exist."""
        return user if self._accounts is None else self._accounts.get(user, user)

    def step(self) -> float:
        """Check the file; return the seconds until the next check."""
        self.look()
        return _LOOK_SECONDS

    def look(self) -> None:
        """Check the file if it has changed since the last check, and log its faults."""
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
            "the users' file %s has the fingerprint %s; if a correct password is refused, compare it with the output "
            "of generate-srp-data --fingerprint on the machine where the file was made",
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
            log.warning("in the users' file: %d more lines are not valid", len(faults) - _MAX_LINES)

    def _admit(self, able: frozenset[str]) -> None:
        """Record who may log in; if several users would now share an account, admit only the previous ones."""
        if self._is_shared or len(able) <= 1:
            self._admitted = able
        elif others := able - self._admitted:
            shown = ", ".join(printable_name(repr(user)) for user in sorted(others)[:_MAX_NAMES])
            log.error(
                "users refused because they would share the server's account: %s; see --shared-account", shown
            )
