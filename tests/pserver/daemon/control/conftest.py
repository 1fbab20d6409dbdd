"""A registry of sessions whose processes do nothing, and its administration."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from pserver.daemon.callback_selector import CallbackSelector
from pserver.daemon.held_session import Session
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService
from tests.support.sessions import Sleeper


class NoPool:
    """A pool without other servers; one can be joined."""

    words: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, object]]] = {
        "join": lambda request: {"host": request["host"]}
    }

    def answer_member(self, request: Mapping[str, Any], user: str, peer: str) -> Mapping[str, object]:
        return {"ok": {"from": peer, "user": user, **request}}


class Place:
    """Sessions and slots, with the sessions' ends of their sockets."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.selector = stack.enter_context(CallbackSelector())
        self.slots = SlotService(4, self.selector)
        stack.callback(self.slots.close)
        self.sessions = SessionRegistry(self.selector, self.slots, lambda: None, lambda *_: None)

    def turn(self) -> None:
        self.selector.call_ready(0.02)
        self.slots.step()

    def attend(self) -> tuple[Session, socket.socket]:
        """Return a session that has not logged in, with its end of the control socket."""
        sleeper = Sleeper(self._stack)
        session = self.sessions.attend(sleeper.started, "192.0.2.1 port 5")
        self._stack.callback(self._end, session)
        return session, sleeper.control

    def log_in(self, user: str = "alice") -> tuple[Session, socket.socket]:
        """Return a session with its end of the control socket."""
        session, control = self.attend()
        words = {"user": user, "network": f"{session.pid:08x}", "key": "", "node": 1}
        with control.dup() as end:
            socket.send_fds(control, [json.dumps(words).encode()], [end.fileno()] * 3)
        while session.user is None:
            self.turn()
        assert control.recv(100) == b"ok"
        return session, control

    def _end(self, session: Session) -> None:
        while session in self.sessions:
            session.signal(9)  # type: ignore[arg-type]
            self.turn()


@pytest.fixture
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack)
