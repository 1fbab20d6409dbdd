"""Reloads the settings of a running server, on SIGHUP and at an administrator's request.

It reads all settings first. If one of them is not valid, nothing changes, and the error says where it is set.
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
    """Reloads settings.

    `config`: the settings with which the server started. `read`: reads the settings that a start would use now.
    `apply`: applies settings that a running server can change, and returns the sessions that end; if it raises, nothing
    has changed.
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
        """Apply changed settings; return them and those that need a restart, each with its old and new value.

        Raises `ConfigurationError` or `CredentialError`; nothing has changed then.
        """
        if self._read is None:
            raise ConfigurationError("this server cannot read its settings again; restart it to change them")
        wanted = self._read()
        changed, restart = _differences(self._config, wanted)
        config = dataclasses.replace(self._config, **{name: new for name, (_, new) in changed.items()})
        ended = self._apply(config)
        self._config = config
        facts = {"changed": _plain(changed), "restart": _plain(restart), "ended": ended}
        log.info("read the settings again: %s", _in_words(facts))
        return facts

    def try_reload(self) -> None:
        """Reload because of a signal, and log an error instead of raising it."""
        try:
            self.reload()
        except (ParallelError, OSError) as error:
            log.error("cannot read the settings again, so nothing changes: %s", error)
        except Exception:  # after a bug of ours, the daemon must still react to signals
            log.exception("cannot read the settings again")


_Changes = dict[str, tuple[Any, Any]]


def _differences(before: ServerConfig, after: ServerConfig) -> tuple[_Changes, _Changes]:
    """Return the settings that differ: first those that a running server can change, then the others."""
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
    """Return a value that JSON can express."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) if isinstance(value, tuple) else value


def _in_words(facts: Mapping[str, Any]) -> str:
    words = [f"{name} is {new!r} instead of {old!r}" for name, (old, new) in facts["changed"].items()]
    words += [f"{name} will be {new!r} after a restart" for name, (_, new) in facts["restart"].items()]
    words += [f"session {each['session']} ends: {each['why']}" for each in facts["ended"]]
    return "; ".join(words) or "nothing has changed"
