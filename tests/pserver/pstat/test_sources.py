"""The servers of this account, asked at their control sockets."""

import os
import signal
from pathlib import Path

import pytest

from pserver.pstat.sources import OwnServers
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


@pytest.mark.usefixtures("environment")
def test_own_servers_are_asked_and_missed_when_they_do_not_answer(asked: Server) -> None:
    source = OwnServers()
    name = str(asked.status["name"])
    [answer] = source.ask(DEADLINE)
    assert answer.name == name and answer.document and answer.document["server"]["pid"] == asked.process.pid
    assert "samples" not in answer.document
    [whole] = source.ask(DEADLINE, {})
    assert whole.document and whole.document["samples"]["rows"]
    [later] = source.ask(DEADLINE, {name: whole.document["time"] + 1000})
    assert later.document and later.document["samples"]["rows"] == []
    os.kill(asked.process.pid, signal.SIGSTOP)
    try:
        [silent] = source.ask(0.2)
    finally:
        os.kill(asked.process.pid, signal.SIGCONT)
    assert (silent.document, silent.error, silent.answered_at) == (None, "does not answer", later.answered_at)
    source.close()


@pytest.mark.usefixtures("environment")
def test_a_server_that_has_gone_stays_in_the_list(
    asked: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = OwnServers()
    [before] = source.ask(DEADLINE)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(tmp_path))
    [gone] = source.ask(DEADLINE)
    assert (gone.name, gone.document, gone.error) == (before.name, None, "does not run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(asked.folder))
    monkeypatch.setenv("PSERVER_RUNTIME_DIR", str(asked.folder))
    assert source.ask(DEADLINE)[0].error == ""
