"""Which servers the options of `pconnect` mean."""

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import Host, parse_hosts


def joined_hosts(hosts: object, join: object) -> list[Host] | None:
    """Return the servers whose pools are to be joined; ``None``: just `hosts` are to be connected.

    `join`: as of `pconnect`. Raises `ConfigurationError` if it makes no sense; the text says why.

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
        raise ConfigurationError("join: name at least one server of the pool, as in pconnect(join='beta')")
    return named
