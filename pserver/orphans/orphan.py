"""What a supervisor keeps so that its client may vanish and come back: how long it waits, and what it will say then."""

import math
import time
from typing import Any

from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pserver.orphans.client_link import KEPT_BYTES

#: What a client hears whose session another one has.
TAKEN_OVER = "another client has taken the session over"
_UNFINISHED = "the client vanished while it was restarted"


class Orphan:
    """A node that may be without its client for a while.

    `timeout`: for how many seconds; 0: it ends with its client.
    """

    def __init__(self, timeout: float) -> None:
        self.since = 0.0  #: when the client vanished, in seconds since 1970; 0 while it is there
        self.notes = 0  #: how many messages for its front end were passed on, to whatever became of it
        self._timeout = timeout
        self._is_wanted = False  # whether the client has asked for it
        self._facts: dict[str, Any] | None = None  # of the engine, once it was a member of the network
        self._death: dict[str, Any] | None = None  # of the last engine that has died
        self._until = math.inf

    def set_up(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Take what a client has said of it in SETUP; return that with what its engine needs to know."""
        self._is_wanted = setup.pop("resumable", False) is True and self._timeout > 0
        return setup | {"kept_bytes": KEPT_BYTES if self._is_wanted else 0}

    @property
    def is_possible(self) -> bool:
        """Whether the node outlives its client: both sides want it, and the network was made."""
        return self._is_wanted and self._facts is not None

    def note(self, message: Message, *, is_orphaned: bool) -> bool:
        """Take in what the engine says; return whether it goes to the client, or to the one who comes back.

        Answers to a client that has vanished concern nobody.
        """
        if message.kind is Kind.FRONT_END:
            self.notes += 1
        elif message.kind is Kind.MESHED and "pid" in message.value:
            message.value["orphan_seconds"] = self._timeout
            self._facts, self._death, self.notes = message.value, None, 0
        return message.kind is Kind.FRONT_END or not is_orphaned

    def note_death(self, death: dict[str, Any]) -> None:
        """Take in how an engine died."""
        self._death = death

    def begin(self) -> None:
        """Begin to wait."""
        self.since, self._until = time.time(), time.monotonic() + self._timeout

    def end(self) -> None:
        """Wait no longer: the client is there."""
        self.since, self._until = 0.0, math.inf

    def time_left(self) -> float:
        """Return how long the node waits for its client."""
        return max(0.0, self._until - time.monotonic())

    @property
    def expiry(self) -> str:
        """Why the node ends when nobody has come back."""
        return f"its client vanished, and did not come back within {self._timeout / 60:g} minutes"

    def facts(self, *, running: int, begun: int, is_ready: bool) -> list[tuple[Kind, dict[str, Any]]]:
        """Return the messages that tell a client who comes back how the engine is.

        `running`, `begun`: the command that runs, 0 for none, and the last one that has begun. `is_ready`: whether the
        engine is there and a member of the network.
        """
        facts = (self._facts or {}) | {"running": running if is_ready else 0, "begun": begun}
        messages = [(Kind.MESHED, facts)]
        if not is_ready:
            death = self._death or {"how": _UNFINISHED, "last_output": "", "command": 0}
            messages.append((Kind.DIED, death))
        return messages
