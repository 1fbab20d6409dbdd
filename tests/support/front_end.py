"""The supervisor's end of the channel on which an engine sends output for the front end."""

import time
from typing import Any

from pconnect.link.connection import Connection
from pconnect.loop.event_loop import EventLoop
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message
from pserver.display.outbox import Outbox
from tests.support.links import LIMIT, channels


def instant(seconds: float) -> float:
    return time.monotonic() + seconds


FEW = 2**14  # bytes that may wait: very few


class Far:
    """The supervisor's end."""

    def __init__(self) -> None:
        near, far = channels()
        self.engine_loop, self.loop = EventLoop(), EventLoop()
        self.engine_end = Connection(0, "supervisor", near, role=Role.ENGINE)
        self.engine_loop.add(self.engine_end)
        self.end = Connection(1, "engine", far, role=Role.OVERSEER)
        self.heard: list[Message] = []
        self.end.on_message = self.heard.append
        self.loop.add(self.end)

    def hear(self, count: int) -> list[Any]:
        """Return the next values while the engine's loop runs too."""

        def enough() -> bool:
            self.engine_loop.poll(0)
            return len(self.heard) >= count

        self.loop.run_until(enough, instant(LIMIT), "notes")
        values = [message.value for message in self.heard[:count]]
        del self.heard[:count]
        return values

    def hear_all(self) -> list[Any]:
        """Return all values up to the end of a command."""
        while not self.heard or self.heard[-1].kind is not Kind.TIMED:
            self.engine_loop.poll(0)
            self.loop.poll(0)
        return [message.value for message in self.heard[:-1]]

    def end_command(self, outbox: Outbox) -> None:
        outbox.release()
        self.engine_end.post(Kind.TIMED)
