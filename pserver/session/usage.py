"""Resource usage of a node, for the audit and the statistics: commands, jobs, and bytes received and sent.

Engines and workers count in memory that they share with their supervisor, so the counts outlive them. The supervisor
reports the sums to the daemon every few seconds and at the end, so they outlive the session.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.engine.command_page import CommandPage
from pserver.session.slot_client import SlotClient

_TELL_SECONDS = 2.0  # between two reports; a killed session loses the usage since the last one
_MEMORY_SECONDS = 5.0  # between two measurements of memory, which take longer
_MEMORY_UNIT = 2**20


class Usage(NamedTuple):
    """Counts; the bytes are those on the links of the node, without logins and handshakes."""

    commands: int = 0
    jobs: int = 0
    received: int = 0
    sent: int = 0

    def plus(self, *others: "Usage") -> "Usage":
        """Return the sums."""
        return Usage(*map(sum, zip(self, *others, strict=True)))


class _Workers(Protocol):
    """The parts of `pserver.session.worker_manager.Workers` that are used here."""

    def usage(self) -> tuple[int, int, int]: ...
    def running(self) -> int: ...
    def memory(self) -> int: ...
    def live_facts(self) -> dict[str, Any]: ...


class NodeUsage:
    """Counts for one node.

    `page`: returns the page of the current engine. `workers`: the workers of the node.
    """

    def __init__(
        self,
        slot_client: SlotClient,
        command: Connection,
        page: Callable[[], CommandPage],
        workers: _Workers,
    ) -> None:
        self._slot_client = slot_client
        self._command = command
        self._page = page
        self._workers = workers
        self._ended = Usage()  # of engines that have ended
        self._counted: CommandPage | None = None  # the page of the last of them
        self._told = Usage(), 0, 0  # the last report: usage, running commands and jobs, memory
        self._tell_at = self._measure_at = 0.0
        self._memory = 0  # bytes of engine and workers, in whole MiB: smaller changes are not reported

    def engine_ended(self) -> None:
        """Keep the counts of an engine that has ended, before its page is closed."""
        self._ended, self._counted = self.engines(), self._page()

    def engines(self) -> Usage:
        """Return the usage of the current engine and of all earlier ones."""
        page = self._page()
        if page is self._counted:
            return self._ended
        return self._ended.plus(Usage(page.commands, 0, *page.traffic))

    def total(self) -> Usage:
        """Return the sums."""
        command = Usage(0, 0, self._command.received_bytes, self._command.sent_bytes)
        return self.engines().plus(Usage(0, *self._workers.usage()), command)

    def tend(self) -> None:
        """Report to the daemon if a report is due and the usage has changed."""
        now = time.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_SECONDS
            if now >= self._measure_at:
                self._measure_at = now + _MEMORY_SECONDS
                self._memory = self._workers.memory() // _MEMORY_UNIT * _MEMORY_UNIT
            told = self.total(), self._workers.running() + bool(self._page().running), self._memory
            if told != self._told:
                self._told = told
                self._slot_client.tell_usage(told[0], "", running=told[1], memory=told[2])

    def answer(self, message: Message) -> None:
        """Answer a QUERY from the client, or have the daemon answer its STATISTICS."""
        number = message.tag
        if message.kind is Kind.QUERY:
            self._command.post(Kind.FACTS, number, self._workers.live_facts())
        else:
            self._slot_client.ask_statistics(
                message.value, lambda told: self._command.post(Kind.STATISTICS, number, told)
            )

    def end(self, how: str) -> None:
        """Report the final usage and the reason of the node's end to the daemon."""
        self._slot_client.tell_usage(self.total(), how)
