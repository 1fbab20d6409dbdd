"""The facts that the supervisor adds to a client's set-up for an engine."""

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pconnect.errors import ProtocolError
from pconnect.protocol.messages import Message
from pconnect.values.decoder import unpack
from pserver.config.limit_options import SessionLimits
from pserver.services.files import is_usable_folder
from pserver.session.login import AuthenticatedClient
from pserver.system.processes import user_in_title

log = logging.getLogger("pserver")


@dataclass(frozen=True)
class EngineSetup:
    """The facts that an engine needs from its server. `folder`: the private folder of the node."""

    client: AuthenticatedClient
    folder: str
    limits: SessionLimits

    def complete(self, node: int, setup: dict[str, Any]) -> dict[str, Any]:
        """Add the server's facts to a client's set-up, and return it.

        Raises `ProtocolError` if the set-up is for another node.
        """
        nodes: Any = unpack(setup["nodes"])
        if node != self.client.node or len(nodes) < node:
            raise ProtocolError(f"SETUP makes no sense: it is not for node {self.client.node}")
        setup["session_folder"] = self.folder
        setup["server_limits"] = self.limits.as_json()
        setup["directory_is_clients"] = is_usable_folder(setup["directory"])
        if not setup["directory_is_clients"]:
            private = Path(self.folder, "work")
            with contextlib.suppress(OSError):  # the engine reports why it has no working directory
                private.mkdir(mode=0o700, exist_ok=True)
            setup["directory"] = str(private)
        setup["title"] = f"session {os.getpid()} {user_in_title(self.client.user)} engine {node}"
        setup["node"] = node
        setup["identity"] = self.client.engine_identity(setup.pop("links"))
        return setup

    def log_refusal(self, message: Message) -> None:
        """Log the engine's report that it has refused a data connection."""
        who = os.getpid(), self.client.node, message.tag
        refusal = "session %d, node %d: refused a data connection that claims to be node %d: %.200r"
        log.warning(refusal, *who, message.value)
