"""The settings that a server was started with, passed to the daemon unchanged so that it can read its settings again.

The parent passes them in an anonymous file (memfd_create(2)), which preserves lists and values that no command-line
option can express. All paths in it are absolute, because the daemon runs in another folder.
"""

import contextlib
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
    """Write the given settings to an anonymous file; return its descriptor.

    `path`: the configuration file. `log_file`: the default log file.
    """
    values = {name: whole(name, value) for name, value in given.items()}
    told = {"given": values, "config": path and str(path.absolute()), "log": str(log_file)}
    descriptor = os.memfd_create("pserver-settings")
    os.write(
        descriptor, json.dumps(told, default=_plain).encode()
    )  # a memory file accepts everything in one call
    return descriptor


def take_over(descriptor: int) -> tuple[dict[str, Any], Path | None, Path]:
    """Return the arguments of `hand_over`; close the descriptor."""
    with open(descriptor, encoding="utf-8") as file:
        file.seek(0)
        told = json.load(file)
    return told["given"], told["config"] and Path(told["config"]), Path(told["log"])


def whole_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which the variables for settings have absolute paths."""
    found = dict(environment)
    for name in PATHS:
        variable = variable_of(name)
        if variable in found:
            found[variable] = whole(name, found[variable])
    return found


def settings_reader(
    given: Given, path: Path | None, log_file: Path | None = None
) -> Callable[[], ServerConfig]:
    """Return a function that reads the current settings of a server.

    The function raises `ConfigurationError` if a setting is invalid. `log_file`: the log file if the settings name
    none.
    """
    environment = dict(os.environ)

    def read() -> ServerConfig:
        config = resolve(given, environment, path).config
        return config if config.log_file or log_file is None else replace(config, log_file=log_file)

    return read


def _plain(value: Any) -> Any:
    """Return the JSON equivalent of a Python value."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    for method, kind in (
        ("__iter__", list),
        ("__index__", int),
        ("__float__", float),
    ):  # for example numpy's scalars and arrays
        if hasattr(value, method):
            with contextlib.suppress(TypeError):  # arrays have all three, whatever their shape
                return kind(value)
    raise ConfigurationError(f"{value!r:.100} is not a valid value for a setting")
