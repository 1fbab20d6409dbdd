"""After failed logins the next ones take longer, so that nobody can try many passwords; without locking others out.

* A user at one source who has failed several times in a row must wait, twice as long each time. A client whose turn
  is soon is kept waiting; one for whom it would take long is turned away. Others do not notice: who poses as a user
  from elsewhere does not lock out the user.
* From a source where many logins of any users have failed, one login comes after the other, with a moment between
  them, so that it cannot try one password on many users quickly. Users who have logged in from there are excepted.
* A login that ends without any proof holds a place for nothing. After one, the next logins of its user at its source
  are doubtful for some minutes, and after such logins of several users, all at that source but those who have logged
  in from there. What is doubtful comes last, see `pserver.daemon.door.login_queue`.

Known and unknown users are treated alike, so this tells nobody whether there is a user of a name.

Memory is bounded. What makes room are the records with the fewest failures: to have a record of many failures
forgotten, one would have to fail as often under thousands of other names.
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
# So many times as many failures are borne from a source as of one user: it may be a whole site.
_SOURCE_FACTOR = 10
_MAX_SOURCE_PAUSE = 2.0
_MEMORY = 3600.0  # seconds after which a failure is forgotten
_MAX_RECORDS = 4096
# After a login without a proof: so hundreds of sources get no second turn before others have their first.
_DOUBT_SECONDS = 600.0
_DOUBTFUL_USERS = 3  # at one source, before other ones there are doubtful, too


class Standing(enum.Enum):
    """What is known of a user at a source."""

    KNOWN = "has logged in"
    NEW = "nothing"
    DOUBTFUL = "has begun a login and left it"


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0  # instant at which the next login may begin


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
            # The exponent is bounded, because a number may be too large for a float.
            doublings = min(record.failures - self.borne, 60)
            record.until = now + min(_FIRST_PAUSE * 2**doublings, self._max_pause)

    def _make_room(self, now: float) -> None:
        """Forget a quarter, so that this seldom happens: what is old, then what has the fewest failures."""
        ranked = sorted(
            self._records.items(),
            key=lambda item: (item[1].last + _MEMORY > now, item[1].failures, item[1].last),
        )
        self._records = dict(ranked[len(ranked) // 4 :])

    def pause(self, key: K) -> float:
        """Return the seconds until the next login may begin."""
        record = self._records.get(key)
        return 0.0 if record is None else max(0.0, record.until - self._clock())

    def is_suspect(self, key: K) -> bool:
        """Whether so much has failed that logins are let in one by one."""
        record = self._records.get(key)
        return record is not None and record.failures >= self.borne and record.last + _MEMORY > self._clock()

    def forget(self, key: K) -> None:
        self._records.pop(key, None)


class _Doubts:
    """The users at sources that have left a login without a proof a short while ago."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}  # when it was, the latest last
        self._users: Counter[str] = Counter()  # how many there are at each source

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
    """The logins at a server that have failed or were left, and who has logged in.

    `borne`: how many failures of one user at one source have no consequence; 0 counts none.
    """

    def __init__(self, borne: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        limit = borne or math.inf
        self._users: _Table[tuple[str, str]] = _Table(limit, _MAX_PAUSE, clock)
        self._sources: _Table[str] = _Table(limit * _SOURCE_FACTOR, _MAX_SOURCE_PAUSE, clock)
        self._doubts = _Doubts(clock)
        self._known: dict[tuple[str, str], None] = {}  # who has logged in from where, the latest last

    def reconfigure(self, borne: int) -> None:
        """Bear another number of failures from now on; what is recorded counts."""
        limit = borne or math.inf
        self._users.borne = limit
        self._sources.borne = limit * _SOURCE_FACTOR

    def fail(self, source: str, user: str) -> None:
        """Record a login that has failed because of the password."""
        self._users.fail((source, user))
        self._sources.fail(source)

    def leave(self, source: str, user: str) -> None:
        """Record a login that has ended without a proof, right or wrong."""
        self._doubts.add(source, user)

    def standing(self, source: str, user: str) -> Standing:
        """Return what is known of a user at a source."""
        if self._doubts.has(source, user):
            return Standing.DOUBTFUL
        if (source, user) in self._known:
            return Standing.KNOWN
        return Standing.DOUBTFUL if self._doubts.has_many(source) else Standing.NEW

    def succeed(self, source: str, user: str) -> None:
        """Record a login that was good. It does not clear the source: others there may go on guessing.

        Nor does it end doubts: whoever leaves logins as this user, from the same source, may go on as well.
        """
        key = (source, user)
        self._users.forget(key)
        self._known.pop(key, None)
        self._known[key] = None
        if len(self._known) > _MAX_RECORDS:
            del self._known[next(iter(self._known))]

    def pause(self, source: str, user: str) -> float:
        """Return the seconds until a login may begin."""
        pause = self._users.pause((source, user))
        return pause if (source, user) in self._known else max(pause, self._sources.pause(source))

    def may_join(self, source: str, user: str, running: Sequence[str]) -> bool:
        """Whether a login may begin while those of other users at its source run, which may yet fail."""
        if self._users.is_suspect((source, user)) and user in running:
            return False
        if (source, user) in self._known or not self._sources.is_suspect(source):
            return True
        return all((source, other) in self._known for other in running)
