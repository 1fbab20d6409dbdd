"""Decides which client may log in next, and which clients are refused when there are too many.

A login costs computation and three processes, so a few logins run at the same time and the others wait. No client can
use up all places:

* *Places*: one source of connections, or one user, gets at most three quarters of the places for logins in progress.
  One place is reserved for users who have logged in from the same source before. For them, the limit holds for each
  pair of user and source instead.
* *Turns*: the next login comes from the source whose last turn is longest ago, and within a source from the user whose
  last turn is longest ago. A source with thousands of waiting clients delays a client from another source by only one
  login.
* *Doubts*: after logins that were abandoned without a proof (see `pserver.daemon.door.login_failures`), the next logins
  of the same user and source get half of the places, and only while no other login can use them. They take turns, too.
* *Early drop*: from `start` logins on, new clients are refused at random, as in sshd. Here this affects only the
  sources with the most logins, and no user who has logged in from the source before. Other clients are accepted, if
  necessary in place of a client from the busiest source.
* *Age*: no login waits longer than `patience`.

A source is an address or a network: see `pserver.daemon.door.arrivals.Source`.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from pserver.config.login_options import Startups
from pserver.daemon.door.login_failures import Standing

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Login(Generic[T]):
    """A client that wants to log in: it is waiting, or has a place."""

    client: T
    source: str
    user: str
    deadline: float = 0.0  #: the end of its time to wait


class LoginQueue(Generic[T]):
    """The logins of a server that have not ended.

    `startups`: the limits for their number. `places`: the number of logins in progress at the same time. `patience`:
    the longest time to wait, in seconds. `standing`: returns the standing of a user at a source.
    """

    def __init__(
        self,
        startups: Startups,
        places: int,
        patience: float,
        standing: Callable[[str, str], Standing] = lambda *_: Standing.NEW,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.reconfigure(startups, places, patience)
        self._standing = standing
        self._clock = clock
        self._chance = chance
        self._in_order: dict[Login[T], None] = {}  # waiting logins in the order of arrival
        # The same logins by source and user, each in the order of their turns.
        self._waiting: dict[str, dict[str, dict[Login[T], None]]] = {}
        self._running: set[Login[T]] = set()
        self._count: Counter[str] = Counter()  # logins by source, waiting and running

    def reconfigure(self, startups: Startups, places: int, patience: float) -> None:
        """Apply new limits; waiting and running logins continue."""
        self._startups = startups
        self._places = places
        self._share = max(1, places - max(1, places // 4))
        self._patience = patience

    def __len__(self) -> int:
        return len(self._in_order) + len(self._running)

    def add(self, client: T, source: str, user: str) -> tuple[Login[T], list[Login[T]]]:
        """Add a client; return its login, and the logins refused because of it: none, another login, or itself."""
        login = Login(client, source, user, self._clock() + self._patience)
        is_greedy = self._count[source] + 1 >= max(self._count.values(), default=0)
        if is_greedy and self._standing(source, user) is not Standing.KNOWN:
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
        """Remove and return a login to make room: the newest login of the busiest user of the busiest source.

        Doubtful users of that source come first.
        """
        if not self._waiting:
            return None
        source = max(self._waiting, key=self._count.__getitem__)
        users = self._waiting[source]
        busiest = max(users, key=lambda user: (self.is_doubtful(source, user), len(users[user])))
        login = next(reversed(users[busiest]))
        self.remove(login)
        return login

    def remove(self, login: Login[T]) -> None:
        """Remove a waiting login."""
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
        """Give a place to the next login and return it; ``None`` if no login can have a place.

        `may_start`: returns whether a login may start now.
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
        room = _Room(self._running, self._places, self._share, self._standing)
        doubtful = None
        for source, by_user in self._waiting.items():
            for user, logins in by_user.items():
                login = next(iter(logins))
                standing = self._standing(source, user)
                if not room.is_there_for(login, standing) or not may_start(login):
                    continue
                if standing is not Standing.DOUBTFUL:
                    return login
                doubtful = doubtful or login
        return doubtful

    @property
    def is_anybody_waiting(self) -> bool:
        """Whether a login is waiting for a place."""
        return bool(self._in_order)

    def is_doubtful(self, source: str, user: str) -> bool:
        """Whether logins of a user at a source come last."""
        return self._standing(source, user) is Standing.DOUBTFUL

    def running_users(self, source: str) -> list[str]:
        """Return the users of a source's logins in progress."""
        return [login.user for login in self._running if login.source == source]

    def remove_all(self, source: str, user: str) -> list[Login[T]]:
        """Remove and return all waiting logins of a user at a source."""
        found = list(self._waiting.get(source, {}).get(user, ()))
        for login in found:
            self.remove(login)
        return found

    def end(self, login: Login[T]) -> None:
        """Free the place of a login that has ended."""
        self._running.remove(login)
        self._uncount(login)

    def next_deadline(self) -> float | None:
        """Return the time at which `expire` has something to do; ``None`` for never."""
        return next((login.deadline for login in self._in_order), None)

    def expire(self) -> list[Login[T]]:
        """Remove and return the logins that have waited for too long."""
        now, found = self._clock(), []
        while self._in_order and (login := next(iter(self._in_order))).deadline <= now:
            self.remove(login)
            found.append(login)
        return found

    def clear(self) -> list[Login[T]]:
        """Remove and return all waiting logins."""
        found = list(self._in_order)
        for login in found:
            self.remove(login)
        return found


class _Room:
    """The free places, and which logins may have them, given the running logins."""

    def __init__(
        self,
        running: Collection[Login[T]],
        places: int,
        share: int,
        standing: Callable[[str, str], Standing],
    ) -> None:
        self._share = share
        self._sources = Counter(login.source for login in running)
        self._users = Counter(login.user for login in running)
        self._pairs = Counter((login.source, login.user) for login in running)
        standings = Counter(standing(login.source, login.user) for login in running)
        kept = 1 if places > 2 else 0  # reserved for known users
        self._others = places - kept - standings[Standing.NEW] - standings[Standing.DOUBTFUL]
        self._doubtful = max(1, places // 2) - standings[Standing.DOUBTFUL]

    def is_there_for(self, login: Login[T], standing: Standing) -> bool:
        if standing is Standing.KNOWN:
            return self._pairs[login.source, login.user] < self._share
        if self._others <= 0 or (standing is Standing.DOUBTFUL and self._doubtful <= 0):
            return False
        return self._sources[login.source] < self._share and self._users[login.user] < self._share
