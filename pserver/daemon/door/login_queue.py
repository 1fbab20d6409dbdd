"""Which client may log in next, and who is turned away when there are too many.

A login is arithmetic and three processes, so a few run at once and the others wait. Nobody can have all of it:

* *Places*: one source of connections, and one user, has at most three quarters of the places for logins that run. One
  place is for users who have logged in from the same source before, and these limits do not hold for them: they hold
  for each user at each source.
* *Turns*: the next login comes from the source whose turn is longest ago, and among its users likewise. A source with
  thousands of clients that wait delays another's client by one login.
* *Doubts*: where logins were left without a proof (see `pserver.daemon.door.login_failures`), the next ones have half
  of the places, and those only while no other login can have them. They take turns likewise.
* *Early drop*: from `start` logins on, newcomers are turned away at random, as sshd does. Here this concerns only the
  sources with the most logins, and nobody who has logged in from there before. Others are let in, if need be in the
  place of one of theirs.
* *Age*: nobody waits for longer than `patience`.

A source is an address, or a network of them: see `pserver.daemon.door.arrivals.Source`.
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
    """A client that wants to log in: it waits, or has a place."""

    client: T
    source: str
    user: str
    deadline: float = 0.0  #: until which it waits


class LoginQueue(Generic[T]):
    """The logins of a server that have not ended.

    `startups`: how many there may be. `places`: how many run at once. `patience`: seconds that one waits at most.
    `standing`: what is known of a user at a source.
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
        self._in_order: dict[Login[T], None] = {}  # those that wait, as they came
        # The same by source and user, each in the order of their turns.
        self._waiting: dict[str, dict[str, dict[Login[T], None]]] = {}
        self._running: set[Login[T]] = set()
        self._count: Counter[str] = Counter()  # of each source, waiting and running

    def reconfigure(self, startups: Startups, places: int, patience: float) -> None:
        """Have other limits from now on; logins that wait or run go on."""
        self._startups = startups
        self._places = places
        self._share = max(1, places - max(1, places // 4))
        self._patience = patience

    def __len__(self) -> int:
        return len(self._in_order) + len(self._running)

    def add(self, client: T, source: str, user: str) -> tuple[Login[T], list[Login[T]]]:
        """Take in a client; return its login, and those that are turned away for it: none, another, or itself."""
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
        """Take out the one that makes room: of the source with the most logins, the newest of its busiest user.

        If some of its users are doubtful, it is one of theirs.
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
        """Whether a login waits for a place."""
        return bool(self._in_order)

    def is_doubtful(self, source: str, user: str) -> bool:
        """Whether a user at a source comes last."""
        return self._standing(source, user) is Standing.DOUBTFUL

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


class _Room:
    """Which logins the places that are free may be for, while some run."""

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
        kept = 1 if places > 2 else 0  # for those who are known
        self._others = places - kept - standings[Standing.NEW] - standings[Standing.DOUBTFUL]
        self._doubtful = max(1, places // 2) - standings[Standing.DOUBTFUL]

    def is_there_for(self, login: Login[T], standing: Standing) -> bool:
        if standing is Standing.KNOWN:
            return self._pairs[login.source, login.user] < self._share
        if self._others <= 0 or (standing is Standing.DOUBTFUL and self._doubtful <= 0):
            return False
        return self._sources[login.source] < self._share and self._users[login.user] < self._share
