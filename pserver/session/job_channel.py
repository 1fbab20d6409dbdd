"""The client's connections for jobs: the job channel, between client and supervisor, and the connections to workers.

The daemon passes on both as descriptors. This module opens the job channel, and hands connections to workers on.
"""

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

from pconnect.errors import ParallelError
from pconnect.link.connection import Connection
from pconnect.link.dialing import DEFAULT_PEER_TIMEOUT, prepare
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.frames import JOB_CHANNEL, PREAMBLE_BYTES, Preamble, Purpose
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pserver.engine.greeting import greet
from pserver.routes.relays import Relays
from pserver.session.login import AuthenticatedClient
from pserver.system.descriptors import receive_descriptors
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after

log = logging.getLogger("pserver")

_HANDSHAKE_TIMEOUT = 20.0


class JobChannel:
    """The job channel of one session; if the client opens it again, the old channel ends.

    `event_loop`: of the supervisor. `client`: of the session. `handover`: the socket on which the daemon passes on the
    client's connections for jobs.
    """

    def __init__(self, event_loop: EventLoop, client: AuthenticatedClient, handover: socket.socket) -> None:
        self.event_loop, self.client = event_loop, client  #: as given
        self._handover = handover
        #: The channel, which may be lost; ``None`` until the client opens it.
        self.connection: Connection | None = None
        #: Called when the client has opened the channel, and with each message of the client.
        self.on_open: Callable[[], object] = lambda: None
        self.on_message: Callable[[Message], None] = lambda _: None
        self.on_lost: Callable[[], object] = lambda: None  #: called when the channel is lost or replaced
        self.on_renewal: Callable[[bytes], object] = lambda _: None  #: called with the node's new certificate
        #: Called with the number of a worker and a descriptor, which the callee must close.
        self.on_worker_connection: Callable[[int, int], object] = lambda _, descriptor: os.close(descriptor)
        self.relays = Relays(event_loop, (client.network_id, client.network_key))  #: of other nodes
        handover.setblocking(False)
        event_loop.watch(handover.fileno(), self._take_connection)

    @property
    def is_open(self) -> bool:
        """Whether messages reach the client."""
        return self.connection is not None and self.connection.error is None

    @property
    def has_room(self) -> bool:
        """Whether the client keeps up: no earlier message is waiting to be sent."""
        return (
            self.connection is not None and self.connection.error is None and not self.connection.has_unsent
        )

    def tell(self, kind: Kind, tag: int, value: Any = None) -> None:
        """Send a message to the client, if there is a channel."""
        if self.connection is not None:
            self.connection.post(kind, tag, value)
            self.event_loop.flush(self.connection)

    def close(self, reason: str = "") -> None:
        """Send the client the reason, close the channel, and take no more connections."""
        if reason:
            self.tell(Kind.STOPPING, 0, reason)
        if self.connection is not None:
            self.event_loop.discard(self.connection)
            self.connection = None
        self.relays.close()
        self._handover.close()

    def _take_connection(self) -> None:
        try:
            data, descriptors = receive_descriptors(self._handover, PREAMBLE_BYTES, 1)
        except BlockingIOError:
            return
        except OSError as error:
            log.error("refused a connection for jobs: the session cannot open more files: %s", error.strerror)
            return
        if not descriptors:  # the daemon is gone
            self.event_loop.unwatch(self._handover.fileno())
            return
        preamble = Preamble.unpack(data)
        if preamble.purpose is Purpose.RELAY:
            self.relays.take(preamble, socket.socket(fileno=descriptors[0]))
        elif preamble.endpoint == JOB_CHANNEL:
            self._greet(descriptors[0])
        else:
            self.on_worker_connection(preamble.endpoint, descriptors[0])

    def _greet(self, descriptor: int) -> None:
        sock = socket.socket(fileno=descriptor)
        prepare(sock, DEFAULT_PEER_TIMEOUT)

        def end(outcome: Channel | Exception) -> None:
            if isinstance(outcome, Channel):
                self._open(outcome)

        steps = greet(sock, self.client.tls, self.client.network_id, 0, self.client.token)
        self.event_loop.background.start(steps, deadline_after(_HANDSHAKE_TIMEOUT), end)

    def leave(self, why: str = "") -> None:
        """Close the channel because the client has left, or must leave for a reason; it can be opened again."""
        if why:
            self.tell(Kind.STOPPING, 0, why)
        if self.connection is not None:
            self.event_loop.discard(self.connection)
            self.connection = None
            self.on_lost()

    def _open(self, channel: Channel) -> None:
        self.leave()
        self.connection = Connection(0, "client", channel, role=Role.WORKERS)
        self.connection.on_message = self.on_message
        self.connection.on_lost = self._lost
        self.event_loop.add(self.connection)
        self.on_open()

    def _lost(self, _: ParallelError) -> None:
        self.on_lost()
