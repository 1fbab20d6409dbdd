"""A value in transit: encoded, with the memory of its arrays alongside, and decoded."""

from typing import Any

from pconnect.values.decoder import decode
from pconnect.values.encoder import encode


def transmit(value: object) -> Any:
    """Return a value as a receiver gets it."""
    head, buffers = encode(value)
    incoming = decode(head, sum(buffer.nbytes for buffer in buffers))
    assert [target.nbytes for target in incoming.buffers] == [buffer.nbytes for buffer in buffers]
    for source, target in zip(buffers, incoming.buffers, strict=True):
        assert source.format == target.format == "B" and source.ndim == target.ndim == 1 and source.nbytes
        target[:] = source
    return incoming.finish()
