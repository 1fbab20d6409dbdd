"""A value on its way: written, with the memory of its arrays beside, and read."""

from typing import Any

from pconnect.values.decoder import decode
from pconnect.values.encoder import encode


def transmit(value: object) -> Any:
    """Return what a receiver makes of a value."""
    head, buffers = encode(value)
    incoming = decode(head, sum(buffer.nbytes for buffer in buffers))
    assert [target.nbytes for target in incoming.buffers] == [buffer.nbytes for buffer in buffers]
    for source, target in zip(buffers, incoming.buffers, strict=True):
        assert source.format == target.format == "B" and source.ndim == target.ndim == 1 and source.nbytes
        target[:] = source
    return incoming.finish()
