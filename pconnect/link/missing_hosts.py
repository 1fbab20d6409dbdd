"""Hosts that are missing when a network is connected, and how many may be missing. Sans-I/O."""

import contextlib
import operator
import time
from collections.abc import Iterable, Mapping

from pconnect.errors import ConfigurationError, ConnectError, ConnectionLostError
from pconnect.link.host_names import Host, parse_hosts

# Fraction of the remaining time for each try after which another try, with fewer hosts, may follow.
_TRY_PART = 0.5


class MissingHostsWarning(UserWarning):
    """`pconnect.connect.pconnect` continues without some hosts. The message has each host with its reason."""


class Attendance:
    """The hosts of the next try. `required`: as given to `pconnect.connect.pconnect`. `is_pool`: the pool names more.

    A node's number is in the certificate that it gets at its login. To avoid gaps in the numbers, a try ends when hosts
    turn out to be missing, and the next one connects the others in their order.
    """

    def __init__(self, hosts: list[Host], required: object = True, *, is_pool: bool = False) -> None:
        self._hosts = hosts
        self._needed = _number(required, len(hosts), is_pool=is_pool)
        self._unknown = 0  # number of named pool servers that were never reached
        self._there = list(range(1, len(hosts) + 1))  # positions in `hosts`, from 1
        self.missing: dict[str, Exception] = {}  #: the errors, by host as the user named it

    def take_in(self, hosts: list[Host], missing: Mapping[str, Exception]) -> None:
        """Replace the hosts that the user has named by the servers of their pool.

        Raises `ConnectError` if there are too few.
        """
        if len(hosts) < self._needed:
            count = f"required={self._needed}: the pool has {len(hosts)} engines"
            raise ConnectError({**missing, "the pool": ConnectionLostError(count)})
        self._hosts, self._there, self._unknown = hosts, list(range(1, len(hosts) + 1)), len(missing)
        self.missing = dict(missing)

    @property
    def hosts(self) -> list[Host]:
        """The hosts that are present, as far as is known: node `n` is on ``hosts[n - 1]``."""
        return [self._hosts[place - 1] for place in self._there]

    @property
    def places(self) -> dict[int, int]:
        """The position of each node among all hosts, from 1."""
        return dict(enumerate(self._there, 1))

    def try_until(self, deadline: float, now: float | None = None) -> float:
        """Return the instant at which the next try ends. If another may follow, it leaves time for it."""
        now = time.monotonic() if now is None else now
        return deadline if len(self._there) == self._needed else now + (deadline - now) * _TRY_PART

    def may_lack(self, failures: Mapping[int, Exception]) -> bool:
        """Return whether enough hosts remain without those of some nodes. If so, record these as missing."""
        if len(self._there) - len(failures) < self._needed:
            return False
        self.missing |= {self.hosts[node - 1].label: error for node, error in failures.items()}
        self._there = [place for node, place in self.places.items() if node not in failures]
        return True

    def forget(self, places: Iterable[tuple[str, int] | Host]) -> None:
        """Record that servers were reached at some places or hosts, which are therefore not missing."""
        reached = {(place.name, place.port) if isinstance(place, Host) else place for place in places}
        for label in list(self.missing):
            with contextlib.suppress(ConfigurationError):  # the label may not be a host
                if any((host.name, host.port) in reached for host in parse_hosts(label)):
                    del self.missing[label]

    def __str__(self) -> str:
        """Return the text of the warning about missing hosts."""
        lines = [f"{host}: {reason}" for host, reason in self.missing.items()]
        there, count = len(self._there), len(self._hosts) + self._unknown
        return "\n  ".join([f"connected without {count - there} of {count} engines:", *lines])


def _number(required: object, count: int, *, is_pool: bool) -> int:
    """Return how many engines are required."""
    if isinstance(required, bool):
        return count if required and not is_pool else 1
    try:
        number = operator.index(required)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= (number if is_pool else count):
        raise ConfigurationError(
            f"required={required!r}: it must be True, False, or a number from 1 to {count}, the number of engines"
        )
    return number
