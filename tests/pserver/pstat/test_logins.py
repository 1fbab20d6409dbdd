"""Requests to servers that are reached by login."""

import os
import socket
from pathlib import Path

import pytest

from pconnect.errors import ConfigurationError
from pserver.pstat.logins import configured_hosts
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


@pytest.mark.usefixtures("environment")
def test_one_login_serves_for_many_questions(asked: Server) -> None:
    source = configured_hosts([asked.host, f"{asked.host}*2", "127.0.0.1:1"], None)
    assert source is not None
    first, refused = source.ask(DEADLINE)
    assert first.document and first.document["server"]["name"] == asked.status["name"]
    assert refused.document is None and "connection refused" in refused.error
    begun = asked.log.count("login user=alice")
    for _ in range(3):
        assert source.ask(DEADLINE)[0].document
    assert asked.log.count("login user=alice") == begun
    with socket.socket(fileno=os.dup(source._channels[asked.host].fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)  # as after a long silence
    assert source.ask(DEADLINE)[0].error == ""
    source.close()
    assert source._channels == {}


@pytest.mark.usefixtures("environment")
def test_after_a_wrong_password_there_is_no_other_try(asked: Server, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("alice:wrong\n")
    source = configured_hosts([asked.host], None)
    assert source is not None
    [refused] = source.ask(DEADLINE)
    assert refused.error.startswith("login refused")
    failures = asked.log.count("login failed") + asked.log.count("event=login-failed")
    assert source.ask(DEADLINE) == [refused]
    assert asked.log.count("login failed") + asked.log.count("event=login-failed") == failures
    with pytest.raises(ConfigurationError, match="port must be a number"):
        configured_hosts(["alpha:x"], None)


def test_hosts_come_from_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("environment")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(tmp_path))
    assert configured_hosts([], None) is None
    monkeypatch.setenv("PCONNECT_HOSTS", "127.0.0.1:1 127.0.0.1:2")
    source = configured_hosts([], None)
    assert source is not None
    assert [answer.name for answer in source.ask(DEADLINE)] == ["127.0.0.1:1", "127.0.0.1:2"]
