"""A worker's side of a detached network: the words of its supervisor, and where its results go.

The supervisor says ``spool FOLDER`` once, and then ``run N`` and in the end ``end``; the worker says ``spooling`` when
it has read that, and ``done N``.
"""

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pconnect.protocol.frames import HEADER_BYTES, NO_LIMIT, Header
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, decode_messages
from pserver.jobs.job_store import JobStore, split_results
from pserver.jobs.unwritten_results import PATIENCE
from pserver.system.descriptors import SpareDescriptor
from srp_tools.steps import deadline_after, remaining

#: What the supervisor says with the descriptor of the client's data connection.
CONNECTION = b"connection"
#: The exit code of a worker whose process cannot be as it was before its last job; the last line it prints says why.
UNFIT = os.EX_SOFTWARE
_WORD_BYTES = 5000  # a path, which has at most 4096
_PAUSE = 0.2  # seconds between two tries to write a result, or to read a job
_READ_SECONDS = 60.0  # a folder that was moved away is back by then

_T = TypeVar("_T")


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


def read_job(
    pipe: socket.socket, spare: SpareDescriptor, store: JobStore, number: int, loaded: set[str]
) -> list[bytes]:
    """Return what `JobStore.read` does; if the folder cannot be read, it may be there again soon.

    Raises `OSError` if it cannot be read for long, or the job is not there.
    """
    return _persist(
        pipe,
        lambda: spare.use(lambda: store.read(number, loaded)),
        _READ_SECONDS,
        lambda error: isinstance(error, FileNotFoundError) and store.folder.exists(),
    )


def keep_results(
    pipe: socket.socket, spare: SpareDescriptor, store: JobStore, buffers: Sequence[bytes | memoryview]
) -> None:
    """Keep results, as soon as there is room on the disk: until then this process does nothing else.

    So it never has more than one result that is not written. `spare`: for jobs that have used up all descriptors.
    """
    _persist(pipe, lambda: spare.use(lambda: _keep_results(store, buffers)), PATIENCE, lambda _: False)


def _persist(
    pipe: socket.socket, attempt: Callable[[], _T], seconds: float, is_final: Callable[[OSError], bool]
) -> _T:
    """Do something until the system no longer refuses it.

    The process ends if the supervisor is gone, or says that the client has changed its mind: from the supervisor the
    client hears which job is lost by that, and gets the results in the shared page.
    """
    deadline = deadline_after(seconds)
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while True:
        try:
            return attempt()
        except OSError as error:
            if is_final(error) or not remaining(deadline):
                raise
        if poll.poll(1000 * _PAUSE) and _is_over(pipe):
            os._exit(1)


def _is_over(pipe: socket.socket) -> bool:
    try:
        return pipe.recv(_WORD_BYTES) != CONNECTION
    except ConnectionError:
        return True


def _keep_results(store: JobStore, buffers: Sequence[bytes | memoryview]) -> None:
    """Keep small results that are together in one buffer, or a single one."""
    if len(buffers) == 1:
        for number, result in split_results(bytes(buffers[0])):
            store.keep(number, result)
        return
    header = Header.unpack(buffers[0][:HEADER_BYTES], NO_LIMIT)
    if header.kind is Kind.RESULT:
        store.keep(header.tag, buffers)
