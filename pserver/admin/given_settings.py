"""What a server was started with, for a daemon that reads its settings again: they pass to it as they were given.

Its parent hands them over in a file without a name (memfd_create(2)): lists and values that no option can express stay
what they are. All paths are whole there, because the daemon runs in another folder.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pserver.admin.settings import resolve, variable_of, whole
from pserver.config.server_config import PATHS, ServerConfig
from srp_tools.errors import ConfigurationError

Given = Mapping[str, Any]


def hand_over(given: Given, path: Path | None, log_file: Path) -> int:
    """Return a descriptor of a file with what was given; `path`: the configuration file; `log_file`: the default."""
    values = {name: whole(name, value) for name, value in given.items()}
    told = {"given": values, "config": path and str(path.absolute()), "log": str(log_file)}
    descriptor = os.memfd_create("pserver-settings")
    os.write(descriptor, json.dumps(told, default=_plain).encode())  # memory takes all at once
    return descriptor


def take_over(descriptor: int) -> tuple[dict[str, Any], Path | None, Path]:
    """Return what `hand_over` was told; close the descriptor."""
    with open(descriptor, encoding="utf-8") as file:
        file.seek(0)
        told = json.load(file)
    return told["given"], told["config"] and Path(told["config"]), Path(told["log"])


def whole_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose variables for settings have whole paths."""
    found = dict(environment)
    for name in PATHS:
        variable = variable_of(name)
        if variable in found:
            found[variable] = whole(name, found[variable])
    return found


def settings_reader(
    given: Given, path: Path | None, log_file: Path | None = None
) -> Callable[[], ServerConfig]:
    """Return a function that returns the settings of a server as they are then.

    It raises `ConfigurationError` if they cannot be used. `log_file`: that of a server that was given none.
    """
    environment = dict(os.environ)

    def read() -> ServerConfig:
        config = resolve(given, environment, path).config
        return config if config.log_file or log_file is None else replace(config, log_file=log_file)

    return read


def _plain(value: Any) -> Any:
    """Return what JSON can express in the place of a value of Python."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for method, kind in (
        ("__index__", int),
        ("__float__", float),
        ("__iter__", list),
    ):  # such as those of numpy
        if hasattr(value, method):
            return kind(value)
    raise ConfigurationError(f"{value!r:.100} is no value of a setting")
