"""The identity of a server: an id derived from its key, and the proof in a login that it has the key. Sans-I/O.

A server keeps its Ed25519 key pair (RFC 8032) for its lifetime. Its id is a hash of the public key, so a server can
only claim an id if it has the key. In each login it signs the client's ClientHello, which contains the user and 32
random bytes from the client. No other login has that ClientHello, and the signature is in the offer, which only a
client that has proved its password can read. So a signature for one client is useless for another server or another
client, and for users of the server, whose code can access the keys of their nodes.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pconnect.errors import ProtocolError

SEED_BYTES = 32  #: length of a private key
_ID_LETTERS = 32
_PUBLIC_BYTES, _SIGNATURE_BYTES = 32, 64
_PURPOSE = b"pserver: this server answers the ClientHello with the SHA-256 "


class ServerKey:
    """The key pair that is derived from a secret seed."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = _id_of(self._public)

    def prove(self, hello: bytes) -> bytes:
        """Return the proof for a client that sent this ClientHello, as TLS records."""
        return self._public + self._key.sign(_signed(hello))


def proved_id(offer: Mapping[str, Any], hello: bytes) -> str:
    """Return the proven id of the server that made an offer, or "" if the offer has none.

    `hello`: the ClientHello of this login, as TLS records. Raises `ProtocolError` if the server does not prove the id
    that it claims.
    """
    id_, proof = offer.get("server", ""), offer.get("proof")
    if id_ == "":
        return ""
    if isinstance(id_, str) and isinstance(proof, bytes) and len(proof) == _PUBLIC_BYTES + _SIGNATURE_BYTES:
        public, signature = proof[:_PUBLIC_BYTES], proof[_PUBLIC_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed(hello))
        except (InvalidSignature, ValueError):
            pass
        else:
            if id_ == _id_of(public):
                return id_
    raise ProtocolError("the server does not prove that it has the id that it claims")


def _id_of(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:_ID_LETTERS]


def _signed(hello: bytes) -> bytes:
    return _PURPOSE + hashlib.sha256(hello).digest()
