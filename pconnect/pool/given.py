"""Interprets the options of `pconnect` that name servers of a pool."""

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import Host, parse_hosts


def joined_hosts(hosts: object, join: object) -> list[Host] | None:
    """Return the servers whose pools to join; ``None`` to connect only to `hosts`.

    `join`: the option of `pconnect`. Raises `ConfigurationError` if it is invalid; the text says why.

    Examples
    --------
    >>> [host.label for host in joined_hosts("localhost", True) or []], joined_hosts("localhost", False)
    (['localhost'], None)
    >>> [host.label for host in joined_hosts(None, ["beta", "gamma:12600"]) or []]
    ['beta', 'gamma:12600']
    """
    if join is None or join is False:
        return None
    named = [] if hosts is None else parse_hosts(hosts)
    if join is not True:
        try:
            named += parse_hosts(join)
        except ConfigurationError as error:
            raise ConfigurationError(f"join: {error}; give hosts, or True for the pool of `hosts`") from None
    if not named:
        raise ConfigurationError(
            "join: no server is given: name one of the pool, as in pconnect(join='beta')"
        )
    return named
