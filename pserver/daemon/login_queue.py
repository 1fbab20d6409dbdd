"""Which client may log in next, and who is turned away when there are too many.

A login is arithmetic and three processes, so a few run at once and the others wait. Nobody can have all of it:

* *Places*: one source of connections, and one user, has at most three quarters of the places for logins that run.
* *Turns*: the next login comes from the source whose turn is longest ago, and among its users likewise. A source with
  thousands of clients that wait delays another's client by one login.
* *Early drop*: from `start` logins on, newcomers are turned away at random, as sshd does. Here this concerns only the
  sources with the most logins. Who comes from another source is let in, if need be in the place of one of theirs.
* *Age*: nobody waits for longer than `patience`.

A source is an address, or a network of them: see `pserver.daemon.arrivals.Source`.
"""

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pserver.config import Startups

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Login(Generic[T]):
    """A client that wants to log in: it waits, or has a place."""

    client: T
    source: str
    user: str
    deadline: float = 0.0  #: until which it waits


class LoginQueue(Generic[T]):
    """The logins of a server that have not ended.

    `startups`: how many there may be. `places`: how many run at once. `patience`: seconds that one waits at most.
    """

    def __init__(
        self,
        startups: Startups,
        places: int,
        patience: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._startups = startups
        self._places = places
        self._share = max(1, places - max(1, places // 4))
        self._patience = patience
        self._clock = clock
        self._chance = chance
        self._in_order: dict[Login[T], None] = {}  # those that wait, as they came
        # The same by source and user, each in the order of their turns.
        self._waiting: dict[str, dict[str, dict[Login[T], None]]] = {}
        self._running: set[Login[T]] = set()
        self._count: Counter[str] = Counter()  # of each source, waiting and running

    def __len__(self) -> int:
        return len(self._in_order) + len(self._running)

    def add(self, client: T, source: str, user: str) -> tuple[Login[T], list[Login[T]]]:
        """Take in a client; return its login, and those that are turned away for it: none, another, or itself."""
        login = Login(client, source, user, self._clock() + self._patience)
        if self._count[source] + 1 >= max(self._count.values(), default=0):
            refused = [login] if self._is_dropped() else []
        elif len(self) >= self._startups.full:
            refused = [self.shed() or login]
        else:
            refused = []
        if login not in refused:
            self._in_order[login] = None
            self._waiting.setdefault(source, {}).setdefault(user, {})[login] = None
            self._count[source] += 1
        return login, refused

    def _is_dropped(self) -> bool:
        start, rate, full = self._startups
        if len(self) < start:
            return False
        if len(self) >= full:
            return True
        return self._chance() * 100 < rate + (100 - rate) * (len(self) - start) / (full - start)

    def shed(self) -> Login[T] | None:
        """Take out the one that makes room: of the source with the most logins, the newest of its busiest user."""
        if not self._waiting:
            return None
        source = max(self._waiting, key=self._count.__getitem__)
        users = self._waiting[source]
        login = next(reversed(users[max(users, key=lambda user: len(users[user]))]))
        self.remove(login)
        return login

    def remove(self, login: Login[T]) -> None:
        """Forget one that waits."""
        self._leave_line(login)
        self._uncount(login)

    def _leave_line(self, login: Login[T]) -> None:
        del self._in_order[login]
        users = self._waiting[login.source]
        del users[login.user][login]
        if not users[login.user]:
            del users[login.user]
        if not users:
            del self._waiting[login.source]

    def _uncount(self, login: Login[T]) -> None:
        self._count[login.source] -= 1
        if not self._count[login.source]:
            del self._count[login.source]

    def take(self, may_start: Callable[[Login[T]], bool] = lambda _: True) -> Login[T] | None:
        """Give a place to the login whose turn it is; return it, or ``None`` if none can have one.

        `may_start` says of a login whether it can have one now.
        """
        login = self._next(may_start) if len(self._running) < self._places else None
        if login is None:
            return None
        self._leave_line(login)
        self._running.add(login)
        users = self._waiting.get(login.source)
        if users is not None:  # source and user have had their turn
            self._waiting[login.source] = self._waiting.pop(login.source)
            if login.user in users:
                users[login.user] = users.pop(login.user)
        return login

    def _next(self, may_start: Callable[[Login[T]], bool]) -> Login[T] | None:
        sources = Counter(login.source for login in self._running)
        users = Counter(login.user for login in self._running)
        for source, by_user in self._waiting.items():
            if sources[source] < self._share:
                for user, logins in by_user.items():
                    login = next(iter(logins))
                    if users[user] < self._share and may_start(login):
                        return login
        return None

    def running_users(self, source: str) -> list[str]:
        """Return the users of the logins of a source that run."""
        return [login.user for login in self._running if login.source == source]

    def remove_all(self, source: str, user: str) -> list[Login[T]]:
        """Take out all of a user at a source that wait, and return them."""
        found = list(self._waiting.get(source, {}).get(user, ()))
        for login in found:
            self.remove(login)
        return found

    def end(self, login: Login[T]) -> None:
        """Free the place of one that runs."""
        self._running.remove(login)
        self._uncount(login)

    def next_deadline(self) -> float | None:
        """Return the instant at which `expire` has something to do; ``None`` for never."""
        return next((login.deadline for login in self._in_order), None)

    def expire(self) -> list[Login[T]]:
        """Take out those that have waited for too long, and return them."""
        now, found = self._clock(), []
        while self._in_order and (login := next(iter(self._in_order))).deadline <= now:
            self.remove(login)
            found.append(login)
        return found

    def clear(self) -> list[Login[T]]:
        """Take out all that wait, and return them."""
        found = list(self._in_order)
        for login in found:
            self.remove(login)
        return found
