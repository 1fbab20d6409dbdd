"""Where a server keeps its members: a private file in its folder for state, beside its key.

It is made when there is something to keep, and written whole. After a power failure it may be empty: the members
announce themselves again soon.
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

_MAX_BYTES = 2**23  # a thousand members with all that they may have
_MOST_FAULTS = 10  # in the log


class MemberFile:
    """The files of one server, which are read at once; `kept`: see `ServerConfig.kept_folder`. `now`: instant."""

    def __init__(self, kept: Path, now: float) -> None:
        folder = kept.with_name("pool")
        self._path = folder / "members.json"
        self.key = KeyFile(folder / "key.json")  #: makes it the server that it is
        self.members = MemberList(self.key.key.id)  #: what was kept, and what comes to it
        if os.path.lexists(self._path):
            self._read(now)

    def _read(self, now: float) -> None:
        try:
            kept = json_object(read_private_bytes(self._path, _MAX_BYTES))
        except CredentialError as error:
            log.error("the members in %s cannot be used, so there are none: %s", self._path, error)
            return
        faults = self.members.load(kept, now)
        for fault in faults[:_MOST_FAULTS]:
            log.error("in %s, left out: %s", self._path, fault)
        if len(faults) > _MOST_FAULTS:
            log.error("in %s, left out: %d more", self._path, len(faults) - _MOST_FAULTS)

    def write_if_changed(self) -> None:
        """Keep what there is, if it is not kept; an error is in the log, and the server goes on."""
        if not self.members.is_changed:
            return
        text = json.dumps({"version": 1, **self.members.dump()})
        self.members.is_changed = False
        try:
            self.key.keep()
            write_private(self._path, text, outlasts_power=False)
        except (CredentialError, OSError) as error:
            log.error("the members are forgotten at the end of this server: %s", error)
