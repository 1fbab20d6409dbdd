"""Which connections reach a session: those of its network's members, each once. No I/O here.

The number of a network is in every preamble in clear, so whoever sees it could fill the queues of an engine that
computes. The MAC of a preamble proves that its sender has the key of the network. A nonce makes sure that nobody
sends a preamble again that was seen on the wire.

A nonce begins with the time at its sender, so nonces have an order. When there are too many to remember, the earliest
is forgotten, and from then on no earlier one is accepted. That a clock is wrong matters only then: if it is so late
that thousands of connections were made after its time.
"""

import heapq
import hmac

from pconnect.protocol.frames import MAC_BYTES, NONCE_BYTES, preamble_mac

_MAX_NONCES = 2**13  # about a megabyte for each session, which only members of its network can fill


class PreambleCheck:
    """The check for one session; `key` is that of its network."""

    def __init__(self, key: bytes, max_nonces: int = _MAX_NONCES) -> None:
        self.key = key
        self._max_nonces = max_nonces
        self._seen: set[bytes] = set()
        self._earliest: list[bytes] = []  # the same, as a heap
        self._forgotten = b""  # all nonces up to this one count as seen

    def is_of_member(self, received: bytes | bytearray) -> bool:
        """Whether the sender of a preamble (`PREAMBLE_BYTES`) knows the key."""
        mac = preamble_mac(self.key, bytes(received[:-MAC_BYTES]))
        return hmac.compare_digest(mac, bytes(received[-MAC_BYTES:]))

    def is_new(self, received: bytes | bytearray) -> bool:
        """Whether a preamble of a member comes for the first time; it is remembered."""
        nonce = bytes(received[-MAC_BYTES - NONCE_BYTES : -MAC_BYTES])
        if nonce <= self._forgotten or nonce in self._seen:
            return False
        self._seen.add(nonce)
        heapq.heappush(self._earliest, nonce)
        if len(self._seen) > self._max_nonces:
            self._forgotten = heapq.heappop(self._earliest)
            self._seen.remove(self._forgotten)
        return True
