"""The servers of this account as a source."""

import asyncio
import time
from pathlib import Path

import pytest

from pconnect.errors import ConnectionLostError
from pserver.page.own_servers import OwnServers
from pserver.system.runtime_dir import OWN_VARIABLE
from srp_tools.errors import ConfigurationError
from tests.support.servers import Server, run_server
from tests.support.waiting import wait_gone


def test_they_are_shown_and_their_sessions_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWN_VARIABLE, str(tmp_path / "server"))
    with run_server(tmp_path / "server") as server, server.connect(1) as net:
        name = server.status["name"]
        for source in (OwnServers(), OwnServers(name)):
            (report,) = asyncio.run(source.reports({}))
            assert report.key == name and report.document is not None
            assert report.document["server"]["pid"] == server.process.pid
            assert report.document["samples"]["rows"]
        (later,) = asyncio.run(source.reports({name: time.time() + 1000}))
        assert later.document is not None and not later.document["samples"]["rows"]
        with pytest.raises(ConfigurationError, match="there is no session '1'"):
            asyncio.run(source.stop(name, 1))
        with pytest.raises(ConfigurationError, match="there is no server 'other'"):
            asyncio.run(source.stop("other", 1))
        check_stop(server, source, name)
        with pytest.raises(ConnectionLostError):
            net.eval("1").result()
    (gone,) = asyncio.run(source.reports({}))
    assert gone.document is None and "no server answers" in gone.error
    assert asyncio.run(source.reports({})) == []  # it looks again


def check_stop(server: Server, source: OwnServers, name: str) -> None:
    (session,) = [each["pid"] for each in server.status_now()["sessions"]]
    assert asyncio.run(source.stop(name, session)) == f"Ended session {session} of alice."
    wait_gone(session)
