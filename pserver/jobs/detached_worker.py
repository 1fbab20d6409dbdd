"""A worker's side of a detached network: the words of its supervisor, and where its results go.

The supervisor says ``spool FOLDER`` once, and then ``run N`` and in the end ``end``; the worker says ``spooling`` when
it has read that, and ``done N``.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pconnect.protocol.frames import HEADER_BYTES, NO_LIMIT, Header
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, decode_messages
from pserver.jobs.job_store import JobStore, split_results

#: What the supervisor says with the descriptor of the client's data connection.
CONNECTION = b"connection"
_WORD_BYTES = 5000  # a path, which has at most 4096


def await_store(pipe: socket.socket, words: bytes = b"") -> JobStore:
    """Return the store that the supervisor names; `words` if they have been read already."""
    pipe.settimeout(None)
    words = words or pipe.recv(_WORD_BYTES)
    while words and not words.startswith(b"spool "):
        words = pipe.recv(_WORD_BYTES)  # a connection of the client, which has left
    if not words:
        raise SystemExit  # the supervisor is gone
    return JobStore(Path(words.removeprefix(b"spool ").decode()))


def orders(pipe: socket.socket) -> Iterator[int]:
    """Report that this worker is ready, and yield the number of each job to run; the next call reports it done."""
    pipe.send(b"spooling")
    while True:
        words = pipe.recv(_WORD_BYTES).split()
        match words:
            case [b"run", number]:
                yield int(number)
                with contextlib.suppress(ConnectionError):  # the supervisor is gone, which we hear next
                    pipe.send(b"done " + number)
            case [word] if word == CONNECTION:
                pass  # of the client, which has left
            case _:
                return


def decode(messages: Iterable[bytes]) -> list[Message]:
    """Return what the client would have sent."""
    return [message for data in messages for message in decode_messages(Role.WORKER, data)]


def keep_results(store: JobStore, buffers: Sequence[bytes | memoryview]) -> None:
    """Keep results: small ones that are together in one buffer, or a single one."""
    if len(buffers) == 1:
        for number, result in split_results(bytes(buffers[0])):
            store.keep(number, result)
        return
    header = Header.unpack(buffers[0][:HEADER_BYTES], NO_LIMIT)
    if header.kind is Kind.RESULT:
        store.keep(header.tag, buffers)
