"""How engines join a network: the client's messages to each, and its data connections to them.

This happens when a network is made, and again when a node is restarted.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pconnect.errors import ConnectionLostError, ServerRefusedError
from pconnect.link.certificate_renewal import CertificateRenewal
from pconnect.link.dialing import dial
from pconnect.link.local_link import client_link, link_token
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import Limits, Preamble, Purpose
from pconnect.routes.keeper import RouteKeeper
from pconnect.routes.location import note_place
from pconnect.session.login import LoginTerms
from pconnect.session.server import Server
from pconnect.values import encoder
from srp_tools.certificates import NetworkAuthority
from srp_tools.channel import Channel
from srp_tools.steps import Steps, remaining
from srp_tools.tls import TlsContexts

# Fraction of the time for an engine's connections: its answer, which names the failed node, must arrive in time.
_ENGINES_PART = 0.9
_REASON_SECONDS = 0.5  # for a server's reason after a connection to its engine has failed
_NO_LIMIT_SECONDS = 3600.0  # for engines whose client waits for ever


def current_folder() -> str:
    """Return this process's working directory; empty if it was removed."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return ""


@dataclass(frozen=True)
class MeshSetup:
    """Parameters fixed for the lifetime of a network."""

    network_id: bytes  #: 16 random bytes
    tls: TlsContexts | None  #: for TLS as node 0; ``None`` without encryption
    #: As passed to `pconnect.connect.pconnect`.
    limits: Limits
    peer_timeout: float
    directory: str  #: working directory of engines, if their machine has it; see `current_folder`
    #: Signs the certificates of this network; ``None`` without encryption.
    authority: NetworkAuthority | None = None
    version: str | None = None  #: of this package, for errors of engines; ``None`` if it is not installed
    network_key: bytes = b""  #: for the MACs of preambles; empty without encryption
    link_key: bytes | None = None  #: the secret for tokens of local links; ``None``: no local links
    is_resumable: bool = False  #: whether the sessions should outlive a client that vanishes
    renewal: CertificateRenewal | None = None  #: renews the certificates; ``None`` without encryption
    #: The terms of the logins, for nodes that are added or reconnected later.
    terms: LoginTerms | None = field(default=None, repr=False)
    routes: RouteKeeper | None = None  #: the routes between its engines

    @classmethod
    def of(cls, terms: LoginTerms, version: str | None, *, is_resumable: bool) -> Self:
        """Return a set-up from the terms of the logins and this process's working directory."""
        return cls(
            terms.network_id,
            terms.tls,
            terms.limits,
            terms.peer_timeout,
            directory=current_folder(),
            authority=terms.authority,
            version=version,
            network_key=terms.network_key,
            link_key=terms.link_key,
            is_resumable=is_resumable,
            terms=terms,
            routes=RouteKeeper(terms.network_id, terms.network_key, terms.peer_timeout),
        )

    def attend(self, servers: Iterable[Server], event_loop: EventLoop) -> None:
        """Read the command channels of new servers."""
        for server in servers:
            event_loop.add(server.command)
        if self.routes is not None:
            self.routes.attend(servers, event_loop)

    def setup(
        self, servers: Sequence[Server], deadline: float, removed: Mapping[int, str] = {}
    ) -> dict[str, Any]:
        """Return the common part of all SETUP messages; `servers` are all of the network, without removed ones.

        `deadline`: of the client, which waits for the engines' reports on their connections. `removed`: the hosts of
        removed nodes, by number; such a node has no address.
        The nodes are encoded once for all: each node gets a SETUP, and each SETUP lists all nodes.
        """
        left = remaining(deadline)
        known = {server.node: describe(server) for server in servers}
        known |= {node: [host, []] for node, host in removed.items()}
        return {
            "network": self.network_id,
            "nodes": encoder.pack([known[node] for node in sorted(known)]),
            "directory": self.directory,
            "limits": list(self.limits),
            "peer_timeout": self.peer_timeout,
            "timeout": _NO_LIMIT_SECONDS if left is None else left * _ENGINES_PART,
            "client_version": self.version,
            "resumable": self.is_resumable,
        }

    def local_links(self, server: Server, servers: Iterable[Server]) -> dict[str, Any]:
        """Return the part of SETUP for one node: path and token of its links to nodes of its account and machine."""
        if self.link_key is None or server.location.local is None:
            return {"links": {}}
        place = server.location.local.place
        return {
            "links": {
                other.node: [other.location.local.path, link_token(self.link_key, server.node, other.node)]
                for other in servers
                if other.node != server.node and other.location.local and other.location.local.place == place
            }
        }

    def beyond(self, server: Server) -> dict[str, list[int]]:
        """Return the part of SETUP for a restarted node: the nodes that it could not dial before."""
        found = self.routes.beyond(server.node) if self.routes is not None else []
        return {"beyond": found} if found else {}

    def dial(self, server: Server, endpoint: int = 0, *, patience: float = 0.0) -> Steps[Channel]:
        """Open the data connection to the engine of a server, or to another endpoint there.

        `patience`: as in `pconnect.link.dialing.dial`.
        """
        return dial(
            server.location.places(),
            Preamble(Purpose.DATA, self.network_id, 0, server.node, endpoint, self.network_key),
            self.tls,
            self.peer_timeout,
            client_link(self.link_key, server.location.local, server.node),
            patience,
            note=functools.partial(note_place, server),
        )


def describe(server: Server) -> list[Any]:
    """Return the host of a server, and its addresses for other nodes: first the one that the client used."""
    return [server.host, list(map(list, server.location.places_for_others()))]


def circumstances(
    begin: Sequence[Server],
    others: Sequence[Server],
    has_answered: Callable[[Server], bool],
    failures: Mapping[Server, Exception] = {},
) -> dict[str, Any]:
    """Return the facts about existing nodes that new engines need besides the set-up.

    `has_answered`: whether a server has confirmed that it expects them. `failures`: why other nodes are gone.
    """
    gone = {server.node: str(error) for server, error in failures.items()}
    for server in others:
        name = f"node {server.node} ({server.host})"
        if server.state != "open":
            gone[server.node] = f"{name} is gone: {server.failures.last_error or server.command.error}"
        elif not has_answered(server):
            gone[server.node] = f"{name} did not answer"
    return {
        "together": [server.node for server in begin],
        "gone": gone,
        "busy": [server.node for server in others if server.running],
    }


def await_reasons(failed: list[Server], event_loop: EventLoop, deadline: float) -> None:
    """Give servers time to report a reason: the better one may arrive after a connection to their engine has ended."""

    def have_said() -> bool:
        return all(
            server.facts.get("errors")
            or server.life.refusal
            or server.failures.last_error
            or server.command.error
            for server in failed
        )

    with contextlib.suppress(TimeoutError):
        event_loop.run_until(have_said, min(deadline, time.monotonic() + _REASON_SECONDS), "the reasons")


def mesh_error(server: Server) -> Exception | None:
    """Return why an engine could not make its connections, if its server has reported it."""
    if server.facts.get("errors"):
        return ConnectionLostError("; ".join(server.facts["errors"].values()))
    if server.life.refusal:  # others logged in at the same time
        return ServerRefusedError(server.life.refusal)
    if server.state != "open":
        return ConnectionLostError(
            server.failures.last_error or str(server.command.error or server.data.error)
        )
    return None
