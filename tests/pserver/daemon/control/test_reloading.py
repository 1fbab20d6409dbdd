from pathlib import Path

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.control.reloading import Reloading
from srp_tools.errors import ConfigurationError

OLD = ServerConfig(slots=1, cmd_port=1, log_file="/x")


class Server:
    """A server that applies settings, and the settings that it can read."""

    def __init__(self) -> None:
        self.wanted = OLD
        self.applied: list[ServerConfig] = []
        self.fails = False

    def read(self) -> ServerConfig:
        return self.wanted

    def apply(self, config: ServerConfig) -> list[dict[str, object]]:
        if self.fails:
            raise ConfigurationError("line 7")
        self.applied.append(config)
        return [{"session": 5, "user": "bob", "why": "he is gone"}]


def test_what_can_be_taken_in_is_and_what_needs_a_restart_is_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = Server()
    reloading = Reloading(OLD, server.read, server.apply)
    server.wanted = ServerConfig(slots=2, cmd_port=2, log_file=Path("/x"), allow_users=("alice",))
    assert reloading.reload() == {
        "changed": {"slots": [1, 2], "allow_users": [[], ["alice"]]},
        "restart": {"cmd_port": [1, 2]},
        "ended": [{"session": 5, "user": "bob", "why": "he is gone"}],
    }
    taken = ServerConfig(slots=2, cmd_port=1, log_file="/x", allow_users=("alice",))
    assert server.applied == [taken]
    assert "cmd_port will be 2 after a restart" in caplog.text
    assert reloading.reload()["changed"] == {}  # it has them already
    assert server.applied[1] == taken


def test_an_error_leaves_all_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    reloading = Reloading(OLD, server.read, server.apply)
    server.wanted = ServerConfig(slots=2)
    server.fails = True
    with pytest.raises(ConfigurationError, match="line 7"):
        reloading.reload()
    reloading.try_reload()
    assert "nothing changes: line 7" in caplog.text
    server.fails = False
    assert "slots" in str(reloading.reload()["changed"])


def test_one_that_cannot_read_says_so() -> None:
    with pytest.raises(ConfigurationError, match="cannot read its settings again"):
        Reloading(OLD, None, Server().apply).reload()


def test_a_fault_of_ours_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> ServerConfig:
        raise RuntimeError("nobody expects this")

    Reloading(OLD, read, Server().apply).try_reload()
    assert "nobody expects this" in caplog.text
