import pytest

from pconnect.errors import ConfigurationError
from pconnect.pool.given import joined_hosts


def labels(hosts: object, join: object) -> list[str] | None:
    found = joined_hosts(hosts, join)
    return None if found is None else [host.label for host in found]


def test_joined_servers_follow_the_hosts() -> None:
    assert labels(["alpha", "beta"], None) is None and labels("alpha", False) is None
    assert labels(["alpha*2"], True) == ["alpha", "alpha"]
    assert labels(None, "gamma") == ["gamma"]
    assert labels("alpha", ["gamma", ("delta", 4000)]) == ["alpha", "gamma", "delta:4000"]


@pytest.mark.parametrize(("hosts", "join"), [(None, True), (None, []), (None, "a b"), ("alpha", 5)])
def test_options_without_a_pool_are_refused(hosts: object, join: object) -> None:
    with pytest.raises(ConfigurationError, match="join"):
        joined_hosts(hosts, join)
