from collections.abc import Callable
from typing import Any

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.door.known_ports import accept_at_known_ports
from srp_tools.errors import ConfigurationError
from tests.support.places import config


def ports_tried(
    settings: ServerConfig, predecessor: dict[str, object] | None, taken: tuple[int, ...] = ()
) -> list[tuple[int, int]]:
    tried: list[tuple[int, int]] = []

    def accept(each: ServerConfig) -> Any:
        tried.append((each.cmd_port, each.data_port))
        if each.cmd_port in taken:
            raise ConfigurationError("the port is taken")

    accepting: Callable[[ServerConfig], Any] = accept
    accept_at_known_ports(settings, predecessor, accepting)
    return tried


BEFORE: dict[str, object] = {"cmd_port": 4000, "data_port": 4001}


def test_a_server_has_the_ports_of_one_that_was_killed_if_it_can() -> None:
    assert ports_tried(config(), None) == [(0, 0)]
    assert ports_tried(config(), BEFORE) == [(4000, 4001)]
    assert ports_tried(config(cmd_port=5000), BEFORE) == [(5000, 4001)]
    assert ports_tried(config(), BEFORE, taken=(4000,)) == [(4000, 4001), (0, 0)]
    assert ports_tried(config(), {"cmd_port": "?"}) == [(0, 0)]


def test_what_the_settings_say_has_to_do() -> None:
    with pytest.raises(ConfigurationError, match="taken"):
        ports_tried(config(cmd_port=4000), BEFORE, taken=(4000,))
