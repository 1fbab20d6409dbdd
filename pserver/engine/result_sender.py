"""Send the results of a worker's jobs, short ones together, and its progress reports.

Small results wait in the page that the worker shares with its supervisor, see `pserver.jobs.shared_status`, so they are
not lost if the worker dies first. Once the client has detached, results go to the job store instead.
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pserver.jobs.detached_worker import await_store, keep_results
from pserver.jobs.job_store import JobStore
from pserver.jobs.shared_status import RESULT_BYTES, SharedStatus
from pserver.services.kept_results import MAX_HEAD_BYTES, KeptResults
from pserver.system.descriptors import SpareDescriptor


class ResultSender:
    """The results of one worker.

    `max_message_bytes`: limit of one message. `connection`: to the client, once it exists. `spare`: a descriptor for
    operations that must work even if jobs have used up all others. `kept`: stores results that cannot be sent.
    """

    def __init__(
        self, pipe: socket.socket, page: SharedStatus, max_message_bytes: int, kept: KeptResults
    ) -> None:
        self.spare = SpareDescriptor()
        self.connection: Connection = Connection(0, "client", None)
        self._pipe = pipe
        self._page = page
        self._max_message_bytes = max_message_bytes
        self._kept = kept
        self._unsent = 0  # bytes in the page
        self._store: JobStore | None = None
        #: Called for each result that is sent.
        self.on_result: Callable[[int, Sequence[Any]], object] = lambda *_: None
        self._lock = threading.Lock()  # a job may report from its own threads

    def store(self, words: bytes = b"") -> JobStore:
        """Return the store that the supervisor names. `words`: its message, if already read."""
        if self._store is None:
            self._store = await_store(self._pipe, words)
        return self._store

    def send(self, number: int, result: list[Any], *, by_name: bool = True) -> None:
        """Send the result of a job, immediately or together with the next ones. `by_name`: see `encode_message`.

        Raises `UnsupportedValueError` or `MessageTooLargeError` if it cannot be sent.
        """
        limit = self._max_message_bytes
        buffers = encode_message(Kind.RESULT, number, result, limit, by_name=by_name)
        self.on_result(number, result)
        with self._lock:
            if len(buffers) == 1 and len(buffers[0]) <= RESULT_BYTES // 4:
                if self._unsent + len(buffers[0]) > RESULT_BYTES:
                    self._flush()
                self._unsent = self._page.keep(bytes(buffers[0]), self._unsent)
                return
            self._flush()
            self._deliver(buffers)

    def keep(self, number: int, data: bytes) -> str:
        """Keep the pickled result of a job on this node; return "" if it is kept, else the reason why not."""
        if self._page.is_detached():
            return "the client has detached"
        return self._kept.keep("job", number, data, self._max_message_bytes - MAX_HEAD_BYTES)

    def report(self, number: int, value: object) -> None:
        """Send a progress report of a job immediately."""
        buffers = encode_message(Kind.REPORT, number, value, self._max_message_bytes)
        with self._lock:
            self._flush()
            self._deliver(buffers)

    def say(self, kind: Kind, number: int, value: object) -> None:
        """Queue a message to the client, behind the waiting results."""
        with self._lock:
            self._flush()
            self.connection.post(kind, number, value)

    def flush(self) -> None:
        """Send the waiting results."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._unsent:
            self._deliver([self._page.results(self._unsent)])
            self._unsent = 0
            self._page.clear()

    def _deliver(self, buffers: Sequence[bytes | memoryview]) -> None:
        # Keep this order. The supervisor writes first and then checks, and so knows when nothing more will be sent.
        self._page.set_sending(True)
        try:
            if self._page.is_detached():
                keep_results(self._pipe, self.spare, self.store(), buffers)
                return
            for buffer in buffers:
                self._write(memoryview(buffer))
        finally:
            self._page.set_sending(False)

    def _write(self, data: memoryview) -> None:
        """Send to the client, however long it takes, but notice if the supervisor or the client is gone."""
        connection = self.connection
        if connection.error is not None:
            return
        connection.post_encoded([data])
        connection.flush()
        while connection.has_unsent and connection.error is None:
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLOUT)
            poll.register(self._pipe, 0)
            for descriptor, _ in poll.poll():
                if descriptor == self._pipe.fileno():
                    os._exit(0)  # the supervisor is gone
            connection.flush()
