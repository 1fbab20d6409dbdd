from typing import Any

import pytest

from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_of_time_is_positive_and_finite(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="--login-timeout"):
        ServerConfig(login_timeout=seconds)
    with pytest.raises(ConfigurationError, match="--proof-timeout"):
        ServerConfig(proof_timeout=seconds)
    with pytest.raises(ConfigurationError, match="--silence-timeout"):
        ServerConfig(silence_timeout=seconds)


def test_somebody_can_log_in() -> None:
    with pytest.raises(ConfigurationError, match="--max-startups 0"):
        ServerConfig(max_startups=0)
    with pytest.raises(ConfigurationError, match="--login-processes 0"):
        ServerConfig(login_processes=0)


@pytest.mark.parametrize(
    ("given", "meant"), [(8, (8, 100, 8)), ("8", (8, 100, 8)), ("10:30:100", (10, 30, 100))]
)
def test_startups_are_written_as_for_sshd(given: int | str, meant: tuple[int, int, int]) -> None:
    assert ServerConfig(max_startups=given).startups() == meant


@pytest.mark.parametrize(
    "text", ["", "x", "10:30", "10:30:", "10:101:100", "10:30:9", "0:30:10", "-1", "1:2:3:4"]
)
def test_what_are_no_startups(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--max-startups"):
        ServerConfig(max_startups=text)


def test_lists_are_texts_or_sequences() -> None:
    for given in ("a, b,", ["a", "b"], ("a", "b")):
        assert ServerConfig(allow_users=given).allow_users == ("a", "b")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "here", "1.2.3", "::1/129"])
def test_only_networks_can_be_allowed(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--allow-from {text}: "):
        ServerConfig(allow_from=["127.0.0.1", text])


def test_a_number_of_failures_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="--max-failures -1"):
        ServerConfig(max_failures=-1)


@pytest.mark.parametrize("options", [{"allow_users": ["alice"]}, {"auth_file": "users"}])
def test_without_tls_there_are_no_users(options: dict[str, Any]) -> None:
    ServerConfig(**options)
    with pytest.raises(
        ConfigurationError, match=r"--no-tls exclude each other: without TLS there is no login"
    ):
        ServerConfig(use_tls=False, **options)
