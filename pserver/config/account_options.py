"""The Unix accounts under which a server runs its sessions."""

import os
from dataclasses import dataclass

from pserver.config.listen_options import FilePath
from pserver.config.option import OptionGroup, setting


@dataclass(frozen=True, kw_only=True)
class AccountOptions(OptionGroup):
    """The account settings of a server."""

    allow_root: bool = setting(
        False,
        "If root starts the server, run the sessions as root, too. Anyone who logs in can then do anything on this "
        "machine. Without this option, a server started by root runs each session under its user's own account.",
    )
    account_map: FilePath | None = setting(
        None,
        "If root starts the server: a file that maps user names to Unix accounts where the two differ, with lines such "
        'as alice = "physics1".',
        "FILE",
        default_text="each user's account has the user's name",
        reloads=True,
    )
    shared_account: bool = setting(
        False,
        "Let several users share the server's account. Each of them can then read and change the files of the others.",
    )

    @property
    def has_accounts(self) -> bool:
        """Whether each session runs under its user's account, because root started the server."""
        return os.geteuid() == 0 and not self.allow_root
