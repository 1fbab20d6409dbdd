"""A supervisor's state for a client that may vanish and come back: how long to wait, and what to send it then."""

import math
import time
from typing import Any

from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.orphans.client_link import KEPT_BYTES

#: The message to a client when another one takes over its session.
TAKEN_OVER = "another client has taken over the session"
_UNFINISHED = "the client disconnected while the engine was being restarted"


class Orphan:
    """A node that may be without its client for a while.

    `timeout`: for how many seconds; 0: the node ends with its client.
    """

    def __init__(self, timeout: float) -> None:
        self.since = 0.0  #: when the client vanished, in seconds since 1970; 0 while it is there
        self.notes = 0  #: number of messages passed on to its front end, whether or not it got them
        self._timeout = timeout
        self._is_wanted = False  # whether the client wants to be able to come back
        self._facts: dict[str, Any] | None = None  # the engine's facts, once it is a member of the network
        self._death: dict[str, Any] | None = None  # the report on the last engine that has died
        self._until = math.inf

    def set_up(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Evaluate the client's SETUP message; return it with the additions that the engine needs."""
        self._is_wanted = setup.pop("resumable", False) is True and self._timeout > 0
        return setup | {"kept_bytes": KEPT_BYTES if self._is_wanted else 0}

    @property
    def is_possible(self) -> bool:
        """Whether the node outlives its client: both sides want that, and the network was made."""
        return self._is_wanted and self._facts is not None

    def note(self, message: Message, *, is_orphaned: bool) -> bool:
        """Evaluate a message of the engine; return whether it goes to the client, or to one that comes back.

        Answers to a client that has vanished are dropped.
        """
        if message.kind is Kind.FRONT_END:
            self.notes += 1
        elif message.kind is Kind.MESHED and "pid" in message.value:
            message.value["orphan_seconds"] = self._timeout
            self._facts, self._death, self.notes = message.value, None, 0
        return message.kind is Kind.FRONT_END or not is_orphaned

    def note_death(self, death: dict[str, Any]) -> None:
        """Record how an engine died."""
        self._death = death

    def begin(self) -> None:
        """Start to wait for the client."""
        self.since, self._until = time.time(), time.monotonic() + self._timeout

    def end(self) -> None:
        """Stop waiting: a client is there."""
        self.since, self._until = 0.0, math.inf

    def time_left(self) -> float:
        """Return how many seconds the node still waits for its client."""
        return max(0.0, self._until - time.monotonic())

    @property
    def expiry(self) -> str:
        """Why the node ends if no client comes back in time."""
        return f"its client disconnected and did not come back within {self._timeout / 60:g} minutes"

    def facts(self, *, running: int, begun: int, is_ready: bool) -> list[tuple[Kind, dict[str, Any]]]:
        """Return the messages that describe the state of the engine to a returning client.

        `running`, `begun`: the running command, 0 for none, and the last one that has begun. `is_ready`: whether the
        engine exists and is a member of the network.
        """
        facts = (self._facts or {}) | {"running": running if is_ready else 0, "begun": begun}
        messages = [(Kind.MESHED, facts)]
        if not is_ready:
            death = self._death or {"how": _UNFINISHED, "last_output": "", "command": 0}
            messages.append((Kind.DIED, death))
        return messages
