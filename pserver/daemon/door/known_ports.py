"""Reuses the ports of a killed server: its networks know them, so the next server listens on them if it can."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping

from pserver.config.server_config import ServerConfig
from pserver.daemon.door.acceptor import Acceptor
from srp_tools.errors import ConfigurationError


def accept_at_known_ports(
    config: ServerConfig, predecessor: Mapping[str, object] | None, accept: Callable[[ServerConfig], Acceptor]
) -> Acceptor:
    """Return the result of `accept`, with the ports of `predecessor` where the settings do not fix them.

    Raises `ConfigurationError` if a port is not available.
    """
    if predecessor is not None:
        cmd_port, data_port = predecessor.get("cmd_port"), predecessor.get("data_port")
        if isinstance(cmd_port, int) and isinstance(data_port, int):
            before = dataclasses.replace(
                config, cmd_port=config.cmd_port or cmd_port, data_port=config.data_port or data_port
            )
            with contextlib.suppress(ConfigurationError):
                return accept(before)
    return accept(config)
