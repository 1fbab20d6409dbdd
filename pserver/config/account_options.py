"""Under which Unix accounts the sessions of a server run."""

import os
from dataclasses import dataclass

from pserver.config.listen_options import FilePath
from pserver.config.option import OptionGroup, setting


@dataclass(frozen=True, kw_only=True)
class AccountOptions(OptionGroup):
    """Those settings of a server that concern accounts."""

    allow_root: bool = setting(
        False,
        "Run sessions as root, too, if root starts the server. Then anyone who logs in can do everything on this "
        "machine. Without it, sessions of a server of root run under the accounts of their users.",
    )
    account_map: FilePath | None = setting(
        None,
        "For a server of root: the accounts of users whose names are not those of their accounts, with lines such as "
        'alice = "physics1".',
        "FILE",
        default_text="each user has the account of the same name",
        reloads=True,
    )
    shared_account: bool = setting(
        False,
        "Let several users share the account of the server, where each can read and change what the others have.",
    )

    @property
    def has_accounts(self) -> bool:
        """Whether sessions run under the accounts of their users: root has started the server."""
        return os.geteuid() == 0 and not self.allow_root
