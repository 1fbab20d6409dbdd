"""Delays logins after failures, to prevent password guessing without locking out other clients.

* A user at one source who has failed several times in a row must wait, twice as long each time. The client waits if the
  delay is short, and is refused if it is long. Other sources are not affected: a guesser cannot lock out the real user.
* From a source where many logins of any users have failed, the server accepts only one login at a time, with a pause
  between them, so the source cannot quickly try one password on many users. Users who have logged in from there before
  are exempt.
* A login that ends without any proof has held a place for nothing. Afterwards, logins of its user at its source are
  doubtful for some minutes; after abandoned logins of several users, all logins at that source are, except of users who
  have logged in from there before. Doubtful logins come last, see `pserver.daemon.door.login_queue`.

Known and unknown users get the same treatment, so nobody can learn whether a user exists.

Memory is bounded. Records with the fewest failures make room: to push out a record of many failures, an attacker would
have to fail as often under thousands of other names.
"""

import enum
import math
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_FIRST_PAUSE = 1.0  # seconds; each is twice the one before
_MAX_PAUSE = 300.0
# A source, which may be a whole site, is allowed this many times the failures of one user.
_SOURCE_FACTOR = 10
_MAX_SOURCE_PAUSE = 2.0
_MEMORY = 3600.0  # seconds after which a failure is forgotten
_MAX_RECORDS = 4096
# After a login without a proof: long enough that hundreds of sources get no second turn before others have their first.
_DOUBT_SECONDS = 600.0
_DOUBTFUL_USERS = 3  # at one source, from which on its other users are doubtful, too


class Standing(enum.Enum):
    """The history of a user at a source."""

    KNOWN = "has logged in"
    NEW = "nothing known"
    DOUBTFUL = "has started a login and abandoned it"


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0  # when the next login may start


class _Table(Generic[K]):
    """Records of failures by any key. `borne`: failures without consequence."""

    def __init__(self, borne: float, max_pause: float, clock: Callable[[], float]) -> None:
        self.borne = borne
        self._max_pause = max_pause
        self._clock = clock
        self._records: dict[K, _Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def fail(self, key: K) -> None:
        now = self._clock()
        if key not in self._records and len(self._records) >= _MAX_RECORDS:
            self._make_room(now)
        record = self._records.setdefault(key, _Record())
        if record.last + _MEMORY <= now:
            record.failures = 0
        record.failures += 1
        record.last = now
        if record.failures >= self.borne:
            # Bound the exponent, because the result must fit into a float.
            doublings = min(record.failures - self.borne, 60)
            record.until = now + min(_FIRST_PAUSE * 2**doublings, self._max_pause)

    def _make_room(self, now: float) -> None:
        """Forget a quarter of the records, to do this rarely: first old ones, then those with the fewest failures."""
        ranked = sorted(
            self._records.items(),
            key=lambda item: (item[1].last + _MEMORY > now, item[1].failures, item[1].last),
        )
        self._records = dict(ranked[len(ranked) // 4 :])

    def pause(self, key: K) -> float:
        """Return the seconds until the next login may start."""
        record = self._records.get(key)
        return 0.0 if record is None else max(0.0, record.until - self._clock())

    def is_suspect(self, key: K) -> bool:
        """Whether there are so many failures that logins are accepted only one at a time."""
        record = self._records.get(key)
        return record is not None and record.failures >= self.borne and record.last + _MEMORY > self._clock()

    def forget(self, key: K) -> None:
        self._records.pop(key, None)


class _Doubts:
    """The users at sources who have recently abandoned a login without a proof."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}  # the time of each, the latest last
        self._users: Counter[str] = Counter()  # number of these users by source

    def __len__(self) -> int:
        return len(self._last)

    def add(self, source: str, user: str) -> None:
        if (source, user) in self._last:
            self._forget(source, user)
        self._last[source, user] = self._clock()
        self._users[source] += 1
        if len(self._last) > _MAX_RECORDS:
            self._forget(*next(iter(self._last)))

    def _forget(self, source: str, user: str) -> None:
        del self._last[source, user]
        self._users[source] -= 1
        if not self._users[source]:
            del self._users[source]

    def has(self, source: str, user: str) -> bool:
        self._forget_old()
        return (source, user) in self._last

    def has_many(self, source: str) -> bool:
        self._forget_old()
        return self._users[source] >= _DOUBTFUL_USERS

    def _forget_old(self) -> None:
        while self._last:
            key, last = next(iter(self._last.items()))
            if last + _DOUBT_SECONDS > self._clock():
                return
            self._forget(*key)


class LoginFailures:
    """The failed and abandoned logins of a server, and the users who have logged in.

    `borne`: the number of failures of one user at one source without consequences; 0 sets no limit.
    """

    def __init__(self, borne: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        limit = borne or math.inf
        self._users: _Table[tuple[str, str]] = _Table(limit, _MAX_PAUSE, clock)
        self._sources: _Table[str] = _Table(limit * _SOURCE_FACTOR, _MAX_SOURCE_PAUSE, clock)
        self._doubts = _Doubts(clock)
        self._known: dict[
            tuple[str, str], None
        ] = {}  # sources and users with a successful login, the latest last

    def reconfigure(self, borne: int) -> None:
        """Change the number of failures without consequences; recorded failures count."""
        limit = borne or math.inf
        self._users.borne = limit
        self._sources.borne = limit * _SOURCE_FACTOR

    def fail(self, source: str, user: str) -> None:
        """Record a login that has failed because of the password."""
        self._users.fail((source, user))
        self._sources.fail(source)

    def leave(self, source: str, user: str) -> None:
        """Record a login that ended without any proof, right or wrong."""
        self._doubts.add(source, user)

    def standing(self, source: str, user: str) -> Standing:
        """Return the standing of a user at a source."""
        if self._doubts.has(source, user):
            return Standing.DOUBTFUL
        if (source, user) in self._known:
            return Standing.KNOWN
        return Standing.DOUBTFUL if self._doubts.has_many(source) else Standing.NEW

    def succeed(self, source: str, user: str) -> None:
        """Record a successful login.

        It does not clear the source, where others may keep guessing. Nor does it end doubts: another client at the
        source may keep abandoning logins as this user.
        """
        key = (source, user)
        self._users.forget(key)
        self._known.pop(key, None)
        self._known[key] = None
        if len(self._known) > _MAX_RECORDS:
            del self._known[next(iter(self._known))]

    def pause(self, source: str, user: str) -> float:
        """Return the seconds until a login may start."""
        pause = self._users.pause((source, user))
        return pause if (source, user) in self._known else max(pause, self._sources.pause(source))

    def may_join(self, source: str, user: str, running: Sequence[str]) -> bool:
        """Whether a login may start while logins of other users at its source are running, which may still fail."""
        if self._users.is_suspect((source, user)) and user in running:
            return False
        if (source, user) in self._known or not self._sources.is_suspect(source):
            return True
        return all((source, other) in self._known for other in running)
