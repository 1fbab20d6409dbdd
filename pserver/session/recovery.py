"""The supervisor's side of `pconnect(recover=token)`: it reads what a detached session has left, or leaves just now.

The two sessions exchange no messages: the one puts results into the job store, this one looks what is there. A client
says that it has a result (TAKE) before it is told that it is the first to say so.
"""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from pconnect.errors import ConfigurationError
from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.jobs.job_store import JobStore
from pserver.session.detached_jobs import lost_result

log = logging.getLogger("pserver")

_LOOK = 0.1  # seconds between two looks into the folder
# Files that are made while one looks may leave the folder's time as it is.
_SETTLED_SECONDS = 1.0
_MAX_UNSENT_BYTES = 2**23  # so much waits for the client, and no more is read


class Recovery:
    """The results of a detached network, on their way to a client.

    `kept`: the folder of all job stores of the server. `channel`: gives the job channel.
    `flush`: writes what can be written to it.
    """

    def __init__(
        self,
        kept: Path,
        user: str,
        channel: Callable[[], Connection | None],
        flush: Callable[[Connection], None],
    ) -> None:
        self._kept = kept
        self._user = user
        self._channel = channel
        self._flush = flush
        self._store: JobStore | None = None
        self._missing: list[int] = []  # what the client has not been sent, in order
        self._seen = 0.0, 0.0  # the folder's time, and ours, at the last look that was to the end

    def hear(self, message: Message) -> None:
        """Take RECOVER, TAKE and STOP."""
        if message.kind is Kind.STOP:
            self._stop(*message.value)
            return
        if message.kind is Kind.TAKE:
            is_first = self._store is not None and self._store.take(message.tag)
            self._tell(Kind.TAKE, message.tag, is_first)
            if is_first and self._store is not None:
                self._store.remove_if_done()
            return
        try:
            answer: object = self._begin(*message.value)
        except ConfigurationError as error:
            answer = str(error)
        except (OSError, TypeError, ValueError, AttributeError) as error:
            answer = f"what is kept cannot be read: {error}"
        self._tell(Kind.RECOVER, 0, answer)
        self.tend()

    def _begin(self, network_id: bytes, node: int, secret: bytes) -> list[list[object]]:
        """Return of each job its number, name, time limit, and seconds from the interrupt to the end by force."""
        if not isinstance(node, int):
            raise TypeError(f"{node!r} is no number of a node")
        self.close()
        self._store = JobStore.find(self._kept, bytes(network_id), node, self._user, bytes(secret))
        self._missing = []
        jobs: list[list[object]] = []
        for number in self._store.numbers():
            try:
                facts = self._store.facts(number)
            except FileNotFoundError:  # another client has taken it just now
                continue
            self._missing.append(number)
            jobs.append([number, facts["name"], facts["limit"], facts["grace"]])
        self._seen = 0.0, 0.0
        return jobs

    def close(self) -> None:
        """Read no more."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _stop(self, number: int, grace: float) -> None:
        """Have the session that runs a job end it; nothing is to be done for one that has ended."""
        if self._store is None or number not in self._missing:
            return
        try:
            self._store.ask_to_stop(number, grace)
        except (OSError, ValueError, TypeError) as error:
            log.warning("job %d cannot be cancelled: %s", number, error)

    def tend(self) -> float:
        """Send what is there; return in how many seconds to call this again."""
        try:
            return self._tend()
        except OSError as error:  # there may be room for descriptors later
            log.error("what is kept cannot be read: %s", error)
            return _LOOK

    def _tend(self) -> float:
        channel = self._channel()
        if self._store is None or not self._missing or channel is None or channel.error is not None:
            return math.inf
        if channel.unsent_bytes < _MAX_UNSENT_BYTES and self._has_changed(self._store):
            self._look(self._store, channel)
            self._flush(channel)
        return _LOOK

    def _has_changed(self, store: JobStore) -> bool:
        changed = store.changed_at()
        before, looked_at = self._seen
        return changed != before or looked_at - changed < _SETTLED_SECONDS or not store.is_held()

    def _look(self, store: JobStore, channel: Connection) -> None:
        if not store.folder.exists() and not store.is_removed:
            return  # it was moved away, and may come back
        seen = time.time()
        # Before the files: what a session that lives has not made by then, it may still make.
        is_held = store.is_held()
        changed = store.changed_at()
        results, open_jobs = store.results(), set(store.numbers())
        reason = "" if is_held else store.why_ended()
        missing: list[int] = []
        for number in self._missing:
            if channel.unsent_bytes >= _MAX_UNSENT_BYTES:
                missing.append(number)
                changed = -2.0  # look again
            elif number not in open_jobs:
                channel.post(Kind.TAKE, number, False)
            elif number in results:
                self._send(store, channel, number)
            elif is_held:
                missing.append(number)
            else:
                channel.post_encoded(lost_result(number, reason))
        self._missing = missing
        self._seen = changed, seen

    def _send(self, store: JobStore, channel: Connection, number: int) -> None:
        try:
            result = store.result(number)
        except FileNotFoundError:  # another client was faster
            channel.post(Kind.TAKE, number, False)
        else:
            channel.post_encoded([result])

    def _tell(self, kind: Kind, tag: int, value: object) -> None:
        channel = self._channel()
        if channel is not None:
            channel.post(kind, tag, value)
            self._flush(channel)
