"""The file of a server's members: a private file in its state folder, next to its key.

It is created when there is something to store, and always rewritten as a whole. After a power failure it may be empty:
members soon announce themselves again.
"""

import json
import logging
import os
from pathlib import Path

from pserver.pool.member_list import MemberList
from pserver.pool.server_key import KeyFile
from pserver.system.descriptors import json_object
from srp_tools.errors import CredentialError
from srp_tools.private_files import read_private_bytes, write_private

log = logging.getLogger("pserver")

_MAX_BYTES = 2**23  # a thousand members with all their data
_MOST_FAULTS = 10  # entries in the log


class MemberFile:
    """The files of one server, which are read on creation. `kept`: see `ServerConfig.kept_folder`. `now`: the time."""

    def __init__(self, kept: Path, now: float) -> None:
        folder = kept.with_name("pool")
        self._path = folder / "members.json"
        self.key = KeyFile(folder / "key.json")  #: the identity of the server
        self.members = MemberList(self.key.key.id)  #: the stored members, and new ones
        if os.path.lexists(self._path):
            self._read(now)

    def _read(self, now: float) -> None:
        try:
            kept = json_object(read_private_bytes(self._path, _MAX_BYTES))
        except CredentialError as error:
            log.error(
                "cannot use the members in %s, so this server starts without any: %s", self._path, error
            )
            return
        faults = self.members.load(kept, now)
        for fault in faults[:_MOST_FAULTS]:
            log.error("in %s, skipped: %s", self._path, fault)
        if len(faults) > _MOST_FAULTS:
            log.error("in %s, skipped: %d more", self._path, len(faults) - _MOST_FAULTS)

    def write_if_changed(self) -> None:
        """Store the members if they have changed. An error goes to the log, and the server runs on."""
        if not self.members.is_changed:
            return
        text = json.dumps({"version": 1, **self.members.dump()})
        self.members.is_changed = False
        try:
            self.key.keep()
            write_private(self._path, text, outlasts_power=False)
        except (CredentialError, OSError) as error:
            log.error("cannot store the members, so they are lost when this server ends: %s", error)
