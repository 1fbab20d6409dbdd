"""Findings about hosts: login, clock and versions."""

import pytest

from pserver.doctor import hosts
from pserver.doctor.checks import Level
from pserver.doctor.hosts import check_hosts
from tests.support.servers import Server


@pytest.fixture
def host(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a host for which this client has a password."""
    monkeypatch.setenv("PCONNECT_USER", server.credentials.user)
    monkeypatch.setenv("PCONNECT_PASSWORD", server.credentials.password)
    return server.host


def test_hosts_that_are_fine(host: str) -> None:
    findings = list(check_hosts([host, host]))
    assert [each.level for each in findings] == [Level.OK] * 7
    assert [each.text.rpartition(": ")[2] for each in findings[:1]] == ["login works"]
    assert "its clock is 0." in findings[1].text
    assert findings[2].text.endswith("as here")
    assert findings[-1].text == f"{host}, {host}: connected to each other"


def test_a_host_without_a_login_is_wrong_and_the_others_are_looked_at(host: str) -> None:
    findings = list(check_hosts(["127.0.0.1:1", host]))
    assert [each.level for each in findings] == [Level.WRONG, *[Level.OK] * 3]
    assert findings[0].text == "127.0.0.1:1: login failed"
    assert "connection refused" in findings[0].remedy


def test_another_version_is_noticed(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "distribution_version", lambda: "99.0")
    assert [each.level for each in check_hosts([host])] == [Level.OK, Level.OK, Level.WRONG]
