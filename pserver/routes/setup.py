"""The setup of a new engine: the network as described by its client, and the additions of its server."""

from dataclasses import dataclass, field
from typing import Any

from pconnect.protocol.frames import Preamble, Purpose
from srp_tools.certificates import Identity
from srp_tools.tls import TlsContexts


@dataclass(frozen=True)
class Setup:
    """The network, in the client's description for an engine; nodes are numbered from 1."""

    network: bytes
    #: Host and addresses of each, packed by `pconnect.session.mesh_setup`.
    nodes: bytes
    node: int
    #: Proof of this node's identity: key, certificate and authority for TLS, path and token of local links by node, and
    #: the key of the network.
    identity: list[Any] | None
    directory: str
    directory_is_clients: bool
    session_folder: str
    limits: list[int]
    peer_timeout: float
    timeout: float
    #: The nodes that start together with this one; ``None``: all.
    together: list[int] | None = None
    #: The nodes that are gone, with the reason; they are not dialled.
    gone: dict[int, str] = field(default_factory=dict)
    #: The nodes that this node could not dial before.
    beyond: list[int] = field(default_factory=list)
    #: The nodes that are busy; the start does not wait for connections to them.
    busy: list[int] = field(default_factory=list)
    #: The server's limits, as returned by `SessionLimits.as_json`.
    server_limits: dict[str, Any] = field(default_factory=dict)
    #: The version of this package on the client, for errors.
    client_version: str | None = None

    def tls(self) -> TlsContexts | None:
        """Return the TLS contexts for connections; ``None`` without encryption."""
        if self.identity is None:
            return None
        key_pem, certificate, authority, *_ = self.identity
        identity = Identity(self.network, self.node, key_pem, certificate, authority)
        return TlsContexts(identity)

    def preamble(self, node: int) -> Preamble:
        """Return the preamble of a data connection to a node."""
        key = self.identity[4] if self.identity else b""
        return Preamble(Purpose.DATA, self.network, self.node, node, key=key)

    def link(self, node: int) -> tuple[str, bytes] | None:
        """Return path and token of the local link to a node; ``None`` if there is none."""
        if self.identity is None or node not in self.identity[3]:
            return None
        path, token = self.identity[3][node]
        return path, token
