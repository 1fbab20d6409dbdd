"""The supervisor's side of `pconnect(recover=token)`: reads the results of a detached session, which may still run.

The two sessions exchange no messages: the detached session writes results to the job store, and this session reads
them. A client claims a result (TAKE), and then learns whether it was the first to claim it.
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

_LOOK = 0.1  # seconds between two checks of the folder
# The folder's time may stay the same for files that are created during a check.
_SETTLED_SECONDS = 1.0
_MAX_UNSENT_BYTES = 2**23  # waiting for the client; beyond that, this session pauses reading


class Recovery:
    """The results of a detached network, on their way to a client.

    `kept`: the folder of all job stores of the server. `channel`: returns the job channel. `flush`: writes as much to
    it as possible without waiting.
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
        self._missing: list[int] = []  # the jobs whose results have not been sent to the client, in order
        self._unclaimed: set[int] = set()  # the jobs that no client is known to have claimed
        self._seen = 0.0, 0.0  # the folder's time, and ours, at the last complete check

    def hear(self, message: Message) -> None:
        """Handle RECOVER, TAKE and STOP."""
        if message.kind is Kind.STOP:
            self._stop(*message.value)
            return
        if message.kind is Kind.TAKE:
            is_first = self._store is not None and self._store.take(message.tag)
            self._tell(Kind.TAKE, message.tag, is_first)
            self._forget(message.tag)
            return
        try:
            answer: object = self._begin(*message.value)
        except ConfigurationError as error:
            answer = str(error)
        except (OSError, TypeError, ValueError, AttributeError) as error:
            answer = f"the server cannot read the kept results: {error}"
        self._tell(Kind.RECOVER, 0, answer)
        self.tend()

    def _begin(self, network_id: bytes, node: int, secret: bytes) -> list[list[object]]:
        """Return for each job its number, name, time limit, and the seconds from the interrupt to the kill."""
        if not isinstance(node, int):
            raise TypeError(f"{node!r} is not a node number")
        self.close()
        self._store = JobStore.find(self._kept, bytes(network_id), node, self._user, bytes(secret))
        self._missing = []
        jobs: list[list[object]] = []
        for number in self._store.numbers():
            try:
                facts = self._store.facts(number)
            except FileNotFoundError:  # another client has just taken it
                continue
            self._missing.append(number)
            jobs.append([number, facts["name"], facts["limit"], facts["grace"]])
        self._unclaimed = set(self._missing)
        self._seen = 0.0, 0.0
        return jobs

    def close(self) -> None:
        """Stop reading, and close the job store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _forget(self, number: int) -> None:
        """Record that a client has claimed a job. Remove the folder after the last one: listing it is slow."""
        self._unclaimed.discard(number)
        if not self._unclaimed and self._store is not None:
            self._store.remove_if_done()

    def _stop(self, number: int, grace: float) -> None:
        """Ask the session that runs a job to end it; do nothing for a job that has ended."""
        if self._store is None or number not in self._missing:
            return
        try:
            self._store.ask_to_stop(number, grace)
        except (OSError, ValueError, TypeError) as error:
            log.warning("cannot cancel job %d: %s", number, error)

    def tend(self) -> float:
        """Send the results that are there; return the seconds until the next call."""
        try:
            return self._tend()
        except OSError as error:  # descriptors may be available again later
            log.error("cannot read the kept results: %s", error)
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
            return  # the folder was moved away, and may come back
        seen = time.time()
        # Check this before reading the files: while the session holds the store, it may still add results.
        is_held = store.is_held()
        changed = store.changed_at()
        results, open_jobs = store.results(), set(store.numbers())
        reason = "" if is_held else store.why_ended()
        missing: list[int] = []
        for number in self._missing:
            if channel.unsent_bytes >= _MAX_UNSENT_BYTES:
                missing.append(number)
                changed = -2.0  # check again
            elif number not in open_jobs:
                self._tell_claimed(channel, number)
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
            self._tell_claimed(channel, number)
        else:
            channel.post_encoded([result])

    def _tell_claimed(self, channel: Connection, number: int) -> None:
        """Tell the client that another client has claimed a job."""
        channel.post(Kind.TAKE, number, False)
        self._forget(number)

    def _tell(self, kind: Kind, tag: int, value: object) -> None:
        channel = self._channel()
        if channel is not None:
            channel.post(kind, tag, value)
            self._flush(channel)
