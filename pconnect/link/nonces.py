"""Nonces of preambles. `pconnect.protocol.preamble_check` explains why they are ordered."""

import secrets
import time

from pconnect.protocol.frames import NONCE_BYTES

_TIME_BYTES = 8


def new_nonce() -> bytes:
    """Return a nonce that begins with the time, in nanoseconds since 1970."""
    return time.time_ns().to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(NONCE_BYTES - _TIME_BYTES)
