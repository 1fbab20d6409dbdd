"""One cell of the matrix: a fault in one kind of process during an activity of a client."""

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from tests.hostile.matrix.cast import find_cast
from tests.hostile.matrix.clients import Client, bystander, heir, visitor, worker
from tests.hostile.matrix.faults import FAULTS, STOP_SECONDS, Undo
from tests.hostile.matrix.house import House
from tests.hostile.matrix.inventory import Inventory, wait_quiet
from tests.support.waiting import DEADLINE, wait_gone

_LOGIN_SECONDS = 5.0  # time limit for a login while the fault lasts
_PATIENCE = 12.0  # seconds for work that does not depend on a stopped process, on a busy machine
_LONGEST_TURN = 2.5  # seconds; less than for work that waits for a stopped process
_HOLDS_AN_ENGINE = {"spawner", "session", "engine"}  # these end with it
_KILL, _STOP = "kill -9", "SIGSTOP 3 s"


@dataclass
class Seen:
    """The client's outcome, the state of the nodes afterwards, and the outcome of a login meanwhile."""

    outcome: dict[str, Any]
    waited: bool  #: whether that was only after a stopped process resumed
    after: dict[Any, str]
    login: dict[str, Any] | None
    login_waited: bool


@dataclass
class _Strike:
    """A fault that lasts."""

    kind: str
    fault: str
    undo: Undo
    begin: float = field(default_factory=time.monotonic)

    def is_over_before(self, activity: str) -> bool:
        """Return whether the activity can resume only with the daemon that replaces a killed one."""
        return self.fault == _KILL and self.kind == "daemon" and activity in {"restart", "detach"}

    def take_back(self) -> None:
        """Undo the fault, once."""
        self.undo()
        self.undo = lambda: None

    def time_left(self) -> float:
        """Return the seconds for which a process is still stopped."""
        return max(0.0, self.begin + STOP_SECONDS - time.monotonic())


class Stage:
    """A server with one client that works on it all the time, and one that logs in on command."""

    def __init__(self, house: House, other_host: str) -> None:
        self._house = house
        self._address = house.address(other_host)
        self._bystander = Client(bystander, self._address)
        self._visitor = Client(visitor, self._address)
        self.is_whole = True  #: until a cell fails
        network = self._bystander.ask("how is it?")["network"]
        self._login()
        self._inventory = Inventory(house, network)

    def close(self) -> None:
        """End the clients."""
        self._bystander.close()
        self._visitor.close()

    def play(self, kind: str, fault: str, activity: str, *, waits: bool) -> Seen:
        """Cause a fault in a process during an activity; check that others are unharmed and nothing is left.

        `waits`: whether the client's work cannot end before a stopped process resumes.
        """
        self.is_whole = False
        turns = self._bystander.ask("how is it?")["turns"]
        client = Client(worker, self._address, activity, fault in {_KILL, _STOP})
        with contextlib.closing(client):
            cast = find_cast(self._house, client.pid, **client.hear())
            strike = _Strike(kind, fault, FAULTS[fault](self._house, kind, cast[kind]))
            if fault == _KILL and kind in _HOLDS_AN_ENGINE:
                # Otherwise a job could end just before its worker does.
                wait_gone(cast["engine"], cast["worker"])
            if activity == "idle":
                self._visitor.tell(str(_LOGIN_SECONDS))
            if strike.is_over_before(activity):
                strike.take_back()
            client.tell("struck")
            seen = self._watch(client, strike, activity, STOP_SECONDS if waits else _PATIENCE)
        told = self._bystander.ask("how is it?")
        assert told["turns"] > turns
        assert told["longest"] < _LONGEST_TURN, told
        self._login()
        self._inventory.compare()
        self.is_whole = True
        return seen

    def _login(self) -> None:
        """Check that anyone can log in."""
        seen = self._visitor.ask(str(DEADLINE / 2))
        assert seen["error"] is None, seen

    def _watch(self, client: Client, strike: _Strike, activity: str, patience: float) -> Seen:
        """Receive the reports of the client and the visitor, and undo the fault once its effect has shown."""
        outcome: dict[str, Any] | None = None
        login: dict[str, Any] | None = None
        is_visited = activity == "idle"
        if strike.fault == _STOP:
            if client.can_hear(patience):
                outcome = client.hear()
            if is_visited and self._visitor.can_hear(strike.time_left()):
                login = self._visitor.hear()
            time.sleep(strike.time_left())
            strike.take_back()
        elif strike.fault == _KILL and strike.kind == "daemon":
            login = self._visitor.hear() if is_visited else None
            strike.take_back()
        waited, login_waited = outcome is None, login is None
        if outcome is None:
            outcome = client.hear()
        if is_visited and login is None:
            login = self._visitor.hear()
        wait_quiet(self._house)
        if strike.fault not in {_STOP, _KILL}:
            strike.take_back()
        after: dict[Any, str] = client.ask("over") if outcome else {}
        client.tell("end")
        stopped = strike.fault == _STOP
        return Seen(
            outcome or self._succeed(activity), stopped and waited, after, login, stopped and login_waited
        )

    def _succeed(self, activity: str) -> dict[str, Any]:
        """Replace a killed client with another one."""
        with contextlib.closing(Client(heir, self._address, activity)) as successor:
            return successor.hear()
