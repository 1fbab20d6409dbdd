import pytest

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import parse_hosts
from pconnect.pool.given import joined_hosts, log_in_at_all
from pconnect.protocol.frames import Limits
from pconnect.session.login import make_terms
from srp_tools.credentials import Credentials
from srp_tools.steps import deadline_after


def labels(hosts: object, join: object) -> list[str] | None:
    found = joined_hosts(hosts, join)
    return None if found is None else [host.label for host in found]


def test_what_is_joined_comes_behind_the_hosts() -> None:
    assert labels(["alpha", "beta"], None) is None and labels("alpha", False) is None
    assert labels(["alpha*2"], True) == ["alpha", "alpha"]
    assert labels(None, "gamma") == ["gamma"]
    assert labels("alpha", ["gamma", ("delta", 4000)]) == ["alpha", "gamma", "delta:4000"]


@pytest.mark.parametrize(("hosts", "join"), [(None, True), (None, []), (None, "a b"), ("alpha", 5)])
def test_what_names_no_pool_is_refused(hosts: object, join: object) -> None:
    with pytest.raises(ConfigurationError, match="join"):
        joined_hosts(hosts, join)


def test_one_login_fails_for_all_nodes_of_a_server() -> None:
    terms = make_terms(Credentials("alice", "correct horse"), Limits(), 5.0)
    outcomes: dict[int, object] = {}
    log_in_at_all(parse_hosts("127.0.0.1:1*2"), terms, deadline_after(20.0), outcomes)  # type: ignore[arg-type]
    assert outcomes[1] is outcomes[2] and "no server listens" in str(outcomes[1])
