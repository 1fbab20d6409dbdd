import datetime
import selectors
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.control.endings import Endings
from pserver.daemon.duty_keeper import DutyKeeper
from pserver.daemon.session_registry import SessionRegistry
from pserver.daemon.slot_service import SlotService
from pserver.duty.admission import Admission
from tests.support.sessions import Sleeper
from tests.support.waiting import DEADLINE, wait_until


class Place:
    """The parts that a duty keeper controls, with a clock that the test sets."""

    def __init__(self, stack: ExitStack, serve: int = 0) -> None:
        config = ServerConfig(service_start="09:00", service_stop="17:00", service_end="18:00", serve=serve)
        self._stack = stack
        self.selector = selector = stack.enter_context(selectors.DefaultSelector())
        self.slots = SlotService(1, selector)
        stack.callback(self.slots.close)
        self.registry = SessionRegistry(selector, self.slots, lambda: None, lambda *_: None)
        self.now = 12.0  # hours
        self.endings = Endings()
        self.admission = Admission(
            lambda: config,
            list,
            lambda: self.now * 3600,
            lambda t: datetime.datetime.fromtimestamp(t, datetime.UTC),
        )
        self.stopped: list[str] = []
        self.keeper = DutyKeeper(
            self.admission, self.registry, self.slots, self.endings, serve=serve, stop=self.stopped.append
        )

    def turn(self) -> None:
        for key, _ in self.selector.select(DEADLINE):
            key.data()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_sessions_end_at_the_end_and_not_before(stack: ExitStack) -> None:
    place = Place(stack)
    sleeper = Sleeper(stack)
    session = place.registry.attend(sleeper.started, "a test")
    for hour in (12.0, 17.5):
        place.now = hour
        place.keeper.step()
        assert session.how == ""
    place.now = 18.5
    place.keeper.step()
    assert session.how == ""  # its client is just reading that its login is refused
    session.user, session.network = "alice", "00000001"
    place.keeper.step()
    assert (
        session.how
        == "service hours: the server ends all sessions at 18:00 (--service-end), and opens again at 09:00"
    )

    def has_ended() -> bool:
        place.endings.step()
        return sleeper.process.poll() is not None

    wait_until(has_ended, "the end of the session")
    place.turn()
    assert len(place.registry) == 0


def test_it_ends_when_the_last_session_has_ended(stack: ExitStack) -> None:
    place = Place(stack, serve=1)
    place.keeper.step()
    assert place.stopped == []
    place.registry.begun = 1
    place.keeper.step()
    assert place.stopped == ["it has served 1 session(s) (--serve)"]
