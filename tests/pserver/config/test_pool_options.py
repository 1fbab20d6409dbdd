from pathlib import Path

import pytest

from pserver.config.pool_options import PoolOptions, parse_joined
from srp_tools.errors import ConfigurationError


def test_servers_to_join_are_hosts_with_ports() -> None:
    options = PoolOptions(join=["beta", "gamma:12600", "beta", "[fe80::1]:12600"])
    assert options.join == ("beta", "gamma:12600", "[fe80::1]:12600")
    assert parse_joined("beta,gamma:12600") == ("beta", "gamma:12600")


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("beta:http", "port"),
        ("beta:0", "port"),
        ("beta*2", "one server"),
        ("", "name"),
        ("user@beta", "user"),
    ],
)
def test_what_is_no_server_is_refused(host: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        PoolOptions(join=[host])


def test_without_login_no_server_is_announced() -> None:
    with pytest.raises(ConfigurationError, match="--join and --no-tls"):
        PoolOptions(join=["beta"], use_tls=False)
    with pytest.raises(ConfigurationError, match="--join and --no-tcp"):
        PoolOptions(join=["beta"], use_tcp=False)


def test_too_many_and_too_often_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at most 64"):
        PoolOptions(join=[f"host{n}" for n in range(65)])
    for seconds in (0.5, 1e6, float("nan")):
        with pytest.raises(ConfigurationError, match="--announce-interval"):
            PoolOptions(announce_interval=seconds)


def test_the_members_file_is_beside_the_users() -> None:
    assert PoolOptions(auth_file="/srv/users/tpasswd").member_path() == Path("/srv/users/member")
    assert PoolOptions(member_file="/srv/pool").member_path() == Path("/srv/pool")
