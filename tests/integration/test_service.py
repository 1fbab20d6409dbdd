"""A server that a service manager has started: what it tells it, and when."""

from pathlib import Path

import pytest

from pconnect import reval
from tests.support.servers import run_server
from tests.support.service_manager import manager


@pytest.mark.slow
def test_a_server_says_what_it_does_and_lives_while_engines_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with manager(tmp_path) as systemd:
        for name, value in systemd.environment(watchdog_seconds=0.5).items():
            monkeypatch.setenv(name, value)
        with run_server(tmp_path / "server") as server:
            systemd.await_word("READY")
            with server.connect(2) as net:
                assert systemd.await_word("STATUS")["STATUS"].startswith("1 session, 0 of ")
                commands = [net[node].eval("while True: pass") for node in (1, 2)]
                for _ in range(5):
                    systemd.await_word("WATCHDOG")
                assert not any(command.done() for command in commands)
                for command in commands:
                    command.cancel()
                # Who computes here has no word with the manager, and neither has who starts it.
                reval("import os", net)
                found = net[1].eval("[name for name in os.environ if 'NOTIFY' in name or 'WATCHDOG' in name]")
                assert found.result() == []
        assert systemd.await_word("STOPPING")
        assert systemd.senders == {server.process.pid}
