"""Where a server keeps which one it is, and its members: a private file in its folder for state.

It is made when there is something to keep, and written whole. After a power failure it may be empty: the members
announce themselves again soon, and clients do not remember the id for longer than one call.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import socket
from pathlib import Path

from pserver.pool.member_list import MemberList
from pserver.system.descriptors import json_object
from srp_tools.errors import CredentialError
from srp_tools.private_files import read_private_bytes, write_private

log = logging.getLogger("pserver")

_MAX_BYTES = 2**23  # a thousand members with all that they may have
_MOST_FAULTS = 10  # in the log
_ID = re.compile(r"[0-9a-f]{32}")
_MACHINE_ID = Path("/etc/machine-id")


class MemberFile:
    """The file of one server, which is read at once; `kept`: see `ServerConfig.kept_folder`. `now`: instant.

    A server without such a file, or with one that cannot be used, has another id.
    """

    def __init__(self, kept: Path, now: float) -> None:
        self._path = kept.with_name("pool") / "members.json"
        self.members = self._read(now)  #: what was kept, and what comes to it

    def _read(self, now: float) -> MemberList:
        if os.path.lexists(self._path):
            try:
                kept = json_object(read_private_bytes(self._path, _MAX_BYTES))
            except CredentialError as error:
                log.error("the members in %s cannot be used, so there are none: %s", self._path, error)
                return MemberList(new_id())
            own = str(kept.get("id"))
            is_right = _ID.fullmatch(own)
            # A folder that was copied to another machine makes no second server of this id there.
            members = MemberList(own if is_right and kept.get("machine") == _machine() else new_id())
            faults = members.load(kept, now)
            if not is_right:
                faults.append("it has no id of a server")
            for fault in faults[:_MOST_FAULTS]:
                log.error("in %s, left out: %s", self._path, fault)
            if len(faults) > _MOST_FAULTS:
                log.error("in %s, left out: %d more", self._path, len(faults) - _MOST_FAULTS)
            return members
        return MemberList(new_id())

    def write_if_changed(self) -> None:
        """Keep what there is, if it is not kept; an error is in the log, and the server goes on."""
        if not self.members.is_changed:
            return
        text = json.dumps({"version": 1, "machine": _machine(), **self.members.dump()})
        self.members.is_changed = False
        try:
            write_private(self._path, text, outlasts_power=False)
        except (CredentialError, OSError) as error:
            log.error("the members are forgotten at the end of this server: %s", error)


def new_id() -> str:
    """Return an id that no other server has."""
    return secrets.token_hex(16)


def _machine() -> str:
    """Return what tells this machine from one that it was copied to."""
    try:
        number = _MACHINE_ID.read_text().strip()
    except OSError:
        number = ""
    return hashlib.sha256(f"{number} {socket.gethostname()}".encode()).hexdigest()[:16]
