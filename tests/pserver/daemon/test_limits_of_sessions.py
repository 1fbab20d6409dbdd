"""The limits that the daemon sets for each session."""

import logging

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.limits_of_sessions import LimitsOfSessions
from srp_tools.errors import ConfigurationError


def test_a_session_has_the_limits_of_the_moment_at_which_it_begins() -> None:
    limits = LimitsOfSessions()
    assert limits.of_session(ServerConfig()).as_json() == {}
    assert limits.of_session(ServerConfig(session_time=60.0)).as_json() == {"time": 60.0}


def test_the_log_says_once_why_there_are_no_cgroups(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConfigurationError("the shell is in it")

    monkeypatch.setattr("pserver.limits.cgroup.own_cgroup", refuse)
    config = ServerConfig(session_processors=1.5)
    limits = LimitsOfSessions()
    with caplog.at_level(logging.INFO, "pserver"):
        for _ in range(2):
            assert limits.of_session(config).cgroup == ""
    assert [record.getMessage() for record in caplog.records] == [
        "sessions have no cgroups, so limits apply to each process: the shell is in it",
        "--session-processors has no effect without cgroups",
    ]
