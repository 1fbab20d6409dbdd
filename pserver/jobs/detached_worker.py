"""A worker's side of a detached network: its messages with the supervisor, and the delivery of its results.

The supervisor sends ``spool FOLDER`` once, then ``run N`` for each job, and finally ``end``. The worker sends
``spooling`` when it has read the first, and ``done N`` after each job.
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

#: The supervisor's message that carries the descriptor of the client's data connection.
CONNECTION = b"connection"
#: The exit code of a worker that cannot restore its process to the state before its last job; its last line says why.
UNFIT = os.EX_SOFTWARE
_WORD_BYTES = 5000  # a path has at most 4096
_PAUSE = 0.2  # seconds between attempts to write a result or to read a job
_READ_SECONDS = 60.0  # enough for a folder that was moved away to come back

_T = TypeVar("_T")


def await_store(pipe: socket.socket, words: bytes = b"") -> JobStore:
    """Return the store that the supervisor names. `words`: its message, if already read."""
    pipe.settimeout(None)
    words = words or pipe.recv(_WORD_BYTES)
    while words and not words.startswith(b"spool "):
        words = pipe.recv(_WORD_BYTES)  # skip a connection of the client, which has detached
    if not words:
        raise SystemExit  # the supervisor is gone
    return JobStore(Path(words.removeprefix(b"spool ").decode()))


def orders(pipe: socket.socket) -> Iterator[int]:
    """Report that this worker is ready, and yield the number of each job to run; the next step reports it as done."""
    pipe.send(b"spooling")
    while True:
        words = pipe.recv(_WORD_BYTES).split()
        match words:
            case [b"run", number]:
                yield int(number)
                with contextlib.suppress(ConnectionError):  # the supervisor is gone; the next read shows it
                    pipe.send(b"done " + number)
            case [word] if word == CONNECTION:
                pass  # a connection of the client, which has detached
            case _:
                return


def decode(messages: Iterable[bytes]) -> list[Message]:
    """Return the decoded messages, in the form in which the client would have sent them."""
    return [message for data in messages for message in decode_messages(Role.WORKER, data)]


def read_job(
    pipe: socket.socket, spare: SpareDescriptor, store: JobStore, number: int, loaded: set[str]
) -> list[bytes]:
    """Return the messages of `JobStore.read`; if the folder cannot be read, try again for a while.

    Raises `OSError` if it stays unreadable, or the job is not there.
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
    """Write results to the store; wait until the disk has room. In the meantime this process does nothing else.

    So it never holds more than one unwritten result. `spare`: used if jobs have used up all descriptors.
    """
    _persist(pipe, lambda: spare.use(lambda: _keep_results(store, buffers)), PATIENCE, lambda _: False)


def _persist(
    pipe: socket.socket, attempt: Callable[[], _T], seconds: float, is_final: Callable[[OSError], bool]
) -> _T:
    """Retry an operation until it succeeds or is certain to fail.

    The process ends if the supervisor is gone, or reports that the client has changed its mind. The client then learns
    from the supervisor which job is lost, and gets the results that are in the shared page.
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
    """Write small results that share one buffer, or a single large one."""
    if len(buffers) == 1:
        for number, result in split_results(bytes(buffers[0])):
            store.keep(number, result)
        return
    header = Header.unpack(buffers[0][:HEADER_BYTES], NO_LIMIT)
    if header.kind is Kind.RESULT:
        store.keep(header.tag, buffers)
