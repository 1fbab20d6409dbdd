"""Feed a decoder with bytes that our encoder never writes: ``python -m tests.fuzz_decoder --inputs 1000000``.

A third of the inputs are random bytes after a header or a table; the rest are messages of the corpus with bits flipped,
pieces cut out, doubled, or inserted from other messages. The decoder may raise only `ProtocolError` and
`UnreadableValueError`, and no input of at most a few hundred kilobytes may take much more memory than the limit of a
message. The process also limits its own memory, to catch allocations that are never touched.
"""

import argparse
import contextlib
import random
import resource
import struct
import sys
import time
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from pconnect.errors import ProtocolError, UnreadableValueError
from pconnect.protocol.frames import HEADER_BYTES, Header
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Decoder, Unfinished, encode_message
from tests.support.hostile import HOSTILE, MEMORY
from tests.support.package_values import ARROW, PANDAS, SPARSE
from tests.support.science_values import SCIENCE
from tests.support.values import VALUES

MAX_MESSAGE_BYTES = 2**20
# Python's objects are larger than their encoding: an empty list is one byte in a message and 64 in memory.
MAX_MEMORY = 100 * MAX_MESSAGE_BYTES
MARKS = [
    msgpack.packb(msgpack.ExtType(code, b""))
    for code in (0, 1, 2, 4, 11, 12, 14, 25, 26, 32, 36, *range(40, 52), 64)
]
PIECES = [
    *MARKS,
    b"\x90",
    b"\x91",
    b"\x93",
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\xff\xff",
    b"\xc0",
    b"\xa1a",
    b"\xc1",
]


@dataclass
class Figures:
    """The results of the inputs."""

    inputs: int = 0
    refused: int = 0
    values: int = 0
    unreadable: int = 0
    peak: int = 0
    slowest: float = 0.0
    slowest_input: bytes = field(default=b"", repr=False)


def corpus(values: list[tuple[str, object]]) -> list[bytes]:
    """Return all values small enough to be worth changing, as messages."""
    messages = [b"".join(encode_message(Kind.VALUE, 0, value, 2**30)) for _, value in values]
    if values is VALUES:
        messages += [Header(Kind.VALUE, 0, len(head), 0).pack() + head for _, head in (*HOSTILE, *MEMORY)]
    return [message for message in messages if len(message) <= 20000]


def random_message(chance: random.Random) -> bytes:
    size = chance.choice([10, 100, 1000])
    if chance.random() < 0.3:
        return chance.randbytes(size)
    body = b"".join(
        chance.choice(PIECES) if chance.random() < 0.6 else chance.randbytes(chance.randint(1, 5))
        for _ in range(size // 5)
    )
    body = chance.choice([b"", b"\x90", b"\x91\x02"]) + body
    return Header(Kind.VALUE, 0, len(body), 0).pack() + body


def mutated(chance: random.Random, messages: list[bytes]) -> bytes:
    data = bytearray(chance.choice(messages))
    in_place = chance.random() < 0.5  # this most often leaves a readable message
    for _ in range(chance.choice([1, 1, 2, 4])):
        if len(data) <= HEADER_BYTES:
            data += b"\x90\xc0"
        at = chance.randrange(HEADER_BYTES, len(data))
        match chance.randrange(2 if in_place else 6):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice([0, 1, 0x7F, 0x80, 0x90, 0xC7, 0xFF])
            case 2:
                data[at : at + 8] = struct.pack("<q", chance.choice([0, -1, 2**31, 2**40, 2**62, len(data)]))
            case 3:
                other = chance.choice(messages)
                begin = chance.randrange(len(other))
                data[at:at] = other[begin : begin + chance.choice([4, 30, 300])]
            case 4:
                del data[at : at + chance.choice([1, 8, 100])]
            case 5:
                data[at:at] = chance.choice(PIECES)
    if len(data) >= HEADER_BYTES and chance.random() < 0.9:
        # Otherwise the decoder would refuse nearly all inputs for their length; the head or the payload changes in
        # size.
        head_bytes, payload_bytes = struct.unpack_from(">LQ", data, 8)
        rest = len(data) - HEADER_BYTES
        if chance.random() < 0.5:
            payload_bytes = min(payload_bytes, rest)
            head_bytes = rest - payload_bytes
        else:
            head_bytes = min(head_bytes, rest)
            payload_bytes = rest - head_bytes
        struct.pack_into(">LQ", data, 8, head_bytes, payload_bytes)
    return bytes(data)


def use(value: Any) -> None:
    """Run a package's compiled code over a value, because this code trusts its input."""
    with contextlib.suppress(Exception):  # a value may be useless, but must not do harm
        if hasattr(value, "tocsr") and max(value.shape) < 10**4:
            value.tocsr().toarray().sum()
        elif hasattr(value, "nbytes") and type(value).__module__ == "pyarrow.lib" and len(value) < 10**4:
            value.to_pylist()
        elif hasattr(value, "to_numpy"):
            value.to_numpy()


def feed(data: bytes, figures: Figures) -> None:
    decoder = Decoder(Role.NODE, MAX_MESSAGE_BYTES)
    at = 0
    try:
        while at < len(data):
            buffer = decoder.get_buffer()
            count = min(len(buffer), len(data) - at)
            buffer[:count] = data[at : at + count]
            del buffer
            at += count
            for message in decoder.received(count):
                value = message.value
                use(value.finish() if type(value) is Unfinished else value)
                figures.values += 1
    except ProtocolError:
        figures.refused += 1
    except UnreadableValueError:
        figures.unreadable += 1


def run(inputs: int, seed: int, values: list[tuple[str, object]] = VALUES, seconds: float = 1e9) -> Figures:
    """Feed `count` inputs, or as many as time allows; raise any error that inputs must not cause."""
    chance = random.Random(seed)
    messages = corpus(values)
    figures = Figures()
    end = time.monotonic() + seconds
    while figures.inputs < inputs and time.monotonic() < end:
        entirely = values is VALUES and chance.random() < 1 / 3
        data = random_message(chance) if entirely else mutated(chance, messages)
        # Tracing makes the traced code ten times slower.
        traced = figures.inputs % 20 == 0
        if traced:
            tracemalloc.start()
        begin = time.perf_counter()
        try:
            feed(data, figures)
        except BaseException:
            print(f"input {figures.inputs} of seed {seed}: {data.hex()}", file=sys.stderr)
            raise
        took = time.perf_counter() - begin
        if traced:
            figures.peak = max(figures.peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert figures.peak < MAX_MEMORY, f"{figures.peak} bytes for {data.hex()}"
        elif took > figures.slowest:
            figures.slowest, figures.slowest_input = took, data
        figures.inputs += 1
    return figures


def main() -> None:
    """Run the number of inputs given on the command line, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10**6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--packages", action="store_true", help="change values of packages only, such as scipy and pandas"
    )
    arguments = parser.parse_args()
    values = SPARSE + ARROW + PANDAS + SCIENCE if arguments.packages else VALUES
    corpus(values)  # imports the values' packages before the memory is limited
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30, mapped + 2**30))
    begin = time.monotonic()
    figures = run(arguments.inputs, arguments.seed, values)
    print(f"{figures}, seed {arguments.seed}, in {time.monotonic() - begin:.0f} s")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) / 1024
    print(f"the process grew by {grown:.0f} MiB; slowest input: {figures.slowest_input[:200].hex()}")


if __name__ == "__main__":
    main()
