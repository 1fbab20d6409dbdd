"""Check that connections to a session come from members of its network, each preamble once. Sans-I/O.

Every preamble contains the network id unencrypted, so anyone who sees it could fill the queues of an engine that is
computing. The MAC of a preamble proves that its sender has the key of the network. A nonce prevents replays of a
preamble that was seen on the network.

A nonce starts with the time of its sender, so nonces have an order. When there are too many to remember, the earliest
is forgotten, and no earlier one is accepted after that. A wrong clock matters only then: if it is so slow that
thousands of connections were made after its time.
"""

import heapq
import hmac

from pconnect.protocol.frames import MAC_BYTES, NONCE_BYTES, preamble_mac

_MAX_NONCES = 2**13  # about a megabyte per session, and only members of the network can cause it


class PreambleCheck:
    """The check for one session. `key` is the key of its network."""

    def __init__(self, key: bytes, max_nonces: int = _MAX_NONCES) -> None:
        self.key = key
        self._max_nonces = max_nonces
        self._seen: set[bytes] = set()
        self._earliest: list[bytes] = []  # the same nonces, as a heap
        self._forgotten = b""  # all nonces up to this one count as seen

    def is_of_member(self, received: bytes | bytearray) -> bool:
        """Whether the sender of a preamble (`PREAMBLE_BYTES`) has the key."""
        mac = preamble_mac(self.key, bytes(received[:-MAC_BYTES]))
        return hmac.compare_digest(mac, bytes(received[-MAC_BYTES:]))

    def is_new(self, received: bytes | bytearray) -> bool:
        """Whether a member's preamble is new. Remembers it."""
        nonce = bytes(received[-MAC_BYTES - NONCE_BYTES : -MAC_BYTES])
        if nonce <= self._forgotten or nonce in self._seen:
            return False
        self._seen.add(nonce)
        heapq.heappush(self._earliest, nonce)
        if len(self._seen) > self._max_nonces:
            self._forgotten = heapq.heappop(self._earliest)
            self._seen.remove(self._forgotten)
        return True
