"""Renewal of the certificates of a network's nodes, which the client sends to their supervisors.

Only the client can renew them, because it is the authority. It does so when it uses the network and a part of the
certificates' lifetime has passed. Open channels outlive the certificates. So a network that was unused for even longer
has new certificates before any node dials.
"""

import time
from collections.abc import Callable, Mapping

from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind
from srp_tools.certificates import NetworkAuthority, renewal_seconds
from srp_tools.tls import TlsContexts


class CertificateRenewal:
    """The renewals over one kind of channel.

    `tls`: the client's TLS contexts. `channels`: returns the channels to the supervisors, by node. `next_number`:
    returns the tag of the next message.
    """

    def __init__(
        self,
        authority: NetworkAuthority,
        tls: TlsContexts,
        channels: Callable[[], Mapping[int, Connection]],
        next_number: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.number = 0  #: the tag of the last renewal
        self._authority = authority
        self._tls = tls
        self._channels = channels
        self._next_number = next_number
        self._clock = clock  # not `time.monotonic`, which may stand still while a machine sleeps
        self._due = clock() + renewal_seconds()

    def look(self) -> None:
        """Send new certificates if it is time."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + renewal_seconds()
        self.number = self._next_number()
        self._tls.renew(self._authority.renew(0))
        for node, channel in self._channels().items():
            if channel.error is None:
                channel.post(Kind.RENEW, self.number, self._authority.renew(node))
