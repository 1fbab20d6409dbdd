"""Takes other settings in while the server runs: on SIGHUP, and at the request of an administrator.

All is read first. If something of it cannot be used, nothing has changed, and the error says where it stands.
"""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from pserver.config.server_config import ServerConfig
from srp_tools.errors import ConfigurationError, ParallelError

log = logging.getLogger("pserver")

Facts = Mapping[str, object]


class Reloading:
    """`config`: the settings with which the server has started.

    `read`: returns those that a start would have now. `apply`: takes in settings that a running server can take in; it
    returns the sessions that end, or raises and has changed nothing.
    """

    def __init__(
        self,
        config: ServerConfig,
        read: Callable[[], ServerConfig] | None,
        apply: Callable[[ServerConfig], list[dict[str, object]]],
    ) -> None:
        self._config = config
        self._read = read
        self._apply = apply

    def reload(self) -> Facts:
        """Take in what has changed; return what that was, and what needs a restart, each with its old and new value.

        Raises `ConfigurationError` or `CredentialError`. Then nothing has changed.
        """
        if self._read is None:
            raise ConfigurationError("this server was started with settings that it cannot read again")
        wanted = self._read()
        changed, restart = _differences(self._config, wanted)
        config = dataclasses.replace(self._config, **{name: new for name, (_, new) in changed.items()})
        ended = self._apply(config)
        self._config = config
        facts = {"changed": _plain(changed), "restart": _plain(restart), "ended": ended}
        log.info("the settings were read again: %s", _in_words(facts))
        return facts

    def try_reload(self) -> None:
        """Do the same for a signal; an error stands in the log."""
        try:
            self.reload()
        except (ParallelError, OSError) as error:
            log.error("the settings could not be read again, so all is as before: %s", error)
        except Exception:  # a fault of ours must not cost the daemon its ear for signals
            log.exception("the settings could not be read again")


_Changes = dict[str, tuple[Any, Any]]


def _differences(before: ServerConfig, after: ServerConfig) -> tuple[_Changes, _Changes]:
    """Return the settings that differ: those that a running server takes in, and the others."""
    changed: _Changes = {}
    restart: _Changes = {}
    for field in dataclasses.fields(ServerConfig):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if _shown(old) != _shown(new):
            kind = changed if field.metadata["option"].reloads else restart
            kind[field.name] = old, new
    return changed, restart


def _plain(changes: _Changes) -> dict[str, list[object]]:
    return {name: [_shown(old), _shown(new)] for name, (old, new) in changes.items()}


def _shown(value: object) -> object:
    """Return what JSON can express."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) if isinstance(value, tuple) else value


def _in_words(facts: Mapping[str, Any]) -> str:
    words = [f"{name} is {new!r} instead of {old!r}" for name, (old, new) in facts["changed"].items()]
    words += [
        f"{name} would be {new!r}, which needs a restart" for name, (_, new) in facts["restart"].items()
    ]
    words += [f"session {each['session']} ends: {each['why']}" for each in facts["ended"]]
    return "; ".join(words) or "nothing has changed"
