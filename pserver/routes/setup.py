"""What an engine is told when it begins: the network, as its client describes it, and what its server adds."""

from dataclasses import dataclass, field
from typing import Any

from pconnect.protocol.frames import Preamble, Purpose
from srp_tools.certificates import Identity
from srp_tools.tls import TlsContexts


@dataclass(frozen=True)
class Setup:
    """The network, as its client describes it to an engine; nodes are numbered from 1."""

    network: bytes
    #: `pconnect.session.mesh_setup` packs host and addresses of each.
    nodes: bytes
    node: int
    #: What proves who this node is: key, certificate and authority for TLS, path and token of local links by node, and
    #: the key of the network.
    identity: list[Any] | None
    directory: str
    directory_is_clients: bool
    session_folder: str
    limits: list[int]
    peer_timeout: float
    timeout: float
    #: The nodes that begin together with this one; ``None``: all.
    together: list[int] | None = None
    #: Those that are gone, and how; they are not dialled.
    gone: dict[int, str] = field(default_factory=dict)
    #: Those that this node could not dial before.
    beyond: list[int] = field(default_factory=list)
    #: Those that are busy; the start does not wait for the connections to them.
    busy: list[int] = field(default_factory=list)
    #: The server's limits, as `SessionLimits.as_json` gives them.
    server_limits: dict[str, Any] = field(default_factory=dict)
    #: The version of this package on the client, for errors.
    client_version: str | None = None

    def tls(self) -> TlsContexts | None:
        """Return what connections need for TLS; ``None`` without encryption."""
        if self.identity is None:
            return None
        key_pem, certificate, authority, *_ = self.identity
        identity = Identity(self.network, self.node, key_pem, certificate, authority)
        return TlsContexts(identity)

    def preamble(self, node: int) -> Preamble:
        """Return what a data connection to a node begins with."""
        key = self.identity[4] if self.identity else b""
        return Preamble(Purpose.DATA, self.network, self.node, node, key=key)

    def link(self, node: int) -> tuple[str, bytes] | None:
        """Return path and token of the local link with a node, ``None`` if there is none."""
        if self.identity is None or node not in self.identity[3]:
            return None
        path, token = self.identity[3][node]
        return path, token
