"""The settings of a server, from the command line, the environment and its configuration file.

Settings from earlier in this list override later ones. The keys of the file are the field names of `ServerConfig`; the
environment variables have the same names in capitals, with the prefix ``PSERVER_``.
"""

import dataclasses
import json
import os
import re
import reprlib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.public_names import nearest
from pconnect.toml_file import TomlFile, read_toml
from pserver.admin.options import flags_of, server_options
from pserver.config.advertised import parse_advertised
from pserver.config.duty_options import parse_time_of_day
from pserver.config.listen_options import parse_addresses
from pserver.config.option import parse_duration, parse_list, parse_size
from pserver.config.page_options import page_address
from pserver.config.pool_options import parse_joined
from pserver.config.server_config import PATHS, ServerConfig
from pserver.system.runtime_dir import OWN_VARIABLE
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import server_folder

#: The settings that fit one machine only; they are not saved for other machines.
OF_ONE_MACHINE = ("name", "bind")

_PREFIX = "PSERVER_"
_GIVEN = "command line"
_OTHER_VARIABLES = {
    "PSERVER_SHADOW",
    OWN_VARIABLE,
}  # the variables of compiler stand-ins, and of the run-time folder
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
# The name of each kind of value in messages, and its types in TOML, by the function that parses its text.
_KINDS: Mapping[Callable[[str], object], tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    parse_duration: ('a number of seconds, or a string such as "90m"', (int, float, str)),
    parse_size: ('a number of bytes, or a string such as "64m"', (int, str)),
    parse_list: ("a list of strings", (list, str)),
    parse_joined: ("a list of strings", (list, str)),
    parse_addresses: ("a list of strings", (list, str)),
    parse_advertised: ("a list of strings", (list, str)),
    parse_time_of_day: ('a string such as "17:00"', (str,)),
    page_address: ("a string", (str,)),
    str: ("a string", (str,)),
}


class Settings(NamedTuple):
    """The settings of a server, and their sources."""

    config: ServerConfig
    sources: Mapping[str, str]  #: source of each setting that was given, by name
    path: Path | None  #: the configuration file, if there is one


def variable_of(name: str) -> str:
    """Return the environment variable for a setting."""
    return f"{_PREFIX}{name.upper()}"


def whole(name: str, value: Any) -> Any:
    """Return the value of a setting for a process in another folder: its paths are absolute."""
    return str(Path(value).absolute()) if name in PATHS and value else value


def default_file() -> Path:
    """Return the path of this account's configuration file. The file need not exist."""
    return server_folder() / "pserver.toml"


def resolve(
    given: Mapping[str, Any],
    environment: Mapping[str, str],
    path: Path | None = None,
    *,
    has_default_file: bool = True,
) -> Settings:
    """Return the settings of a server.

    `given`: the settings from the command line, or keywords. `path`: the configuration file, which must exist; ``None``
    reads the default file if it exists, unless `has_default_file` is false (for a server of another account).

    Raises `ConfigurationError` if a setting is invalid; the message names the setting, its source, and the reason.
    """
    file = None if path is None and not has_default_file else read_toml(path or default_file())
    if file is None and path is not None:
        raise ConfigurationError(f"--config {path}: this file does not exist, or this account cannot read it")
    values, sources = ({}, {}) if file is None else _of_file(file)
    for variable, text in environment.items():
        if variable.startswith(_PREFIX) and variable not in _OTHER_VARIABLES:
            name = variable.removeprefix(_PREFIX).lower()
            values[name], sources[name] = _of_variable(variable, name, text), variable
    values |= {name: _of_given(name, value) for name, value in given.items()}
    sources |= dict.fromkeys(given, _GIVEN)
    try:
        return Settings(ServerConfig(**values), sources, None if file is None else file.path)
    except ConfigurationError as error:
        raise ConfigurationError("; ".join([str(error), *_elsewhere(str(error), sources)])) from None


def server_name(given: str | None) -> str:
    """Return the name of the server: the given one, or the one from the configuration."""
    if given:
        return given
    try:
        return resolve({}, os.environ).config.name
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; give --name NAME to bypass the configuration") from None


def as_toml(config: ServerConfig) -> tuple[str, list[str]]:
    """Return a configuration file with every setting that differs from its default, and the names that were left out.

    Settings that fit one machine only are left out.
    """
    values = {
        name: getattr(config, name)
        for name, field in server_options().items()
        if getattr(config, name) != field.default
    }
    left_out = [name for name in OF_ONE_MACHINE if name in values]
    lines = [f"{name} = {_toml(name, value)}" for name, value in values.items() if name not in left_out]
    return "".join(f"{line}\n" for line in lines), left_out


def _toml(name: str, value: object) -> str:
    # JSON and TOML write these values alike, except for one character.
    return json.dumps(whole(name, value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _of_file(file: TomlFile) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    for name, value in file.content.items():
        try:
            values[name] = _checked(name, _of_toml(name, value))
        except ConfigurationError as error:
            raise file.error((name,), str(error)) from None
    return values, {name: file.where((name,)) for name in values}


def _of_toml(name: str, value: Any) -> object:
    """Return the setting for a TOML value."""
    options = server_options()
    if name not in options:
        raise ConfigurationError(f"there is no setting {name!r}{nearest(name, list(options))}")
    field = options[name]
    parse = field.metadata["option"].parse
    is_switch = isinstance(field.default, bool)
    what, types = ("true or false", (bool,)) if is_switch else _KINDS[parse]
    if int in typing.get_args(field.type) and int not in types:
        what, types = f"a whole number, or {what}", (int, *types)
    is_right = isinstance(value, types) and isinstance(value, bool) == is_switch
    if isinstance(value, list):
        is_right = is_right and all(isinstance(each, str) for each in value)
    if not is_right:
        raise ConfigurationError(f"{name} must be {what}, not {json.dumps(value, default=str)}")
    if not isinstance(value, str):
        return value
    try:
        value = parse(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    if name in PATHS:
        expanded = Path(os.path.expanduser(value))  # noqa: PTH111 - leaves ~x unchanged if there is no user x
        if not expanded.is_absolute():
            raise ConfigurationError(f"{name} {value}: give an absolute path, which begins with / or ~")
        return expanded
    return value


def _of_given(name: str, value: Any) -> object:
    """Return the setting for a value from the command line, which is parsed, or for a keyword's value of any type."""
    field = server_options()[name]
    parse = field.metadata["option"].parse
    types = typing.get_args(field.type) or (field.type,)
    if isinstance(field.default, bool):
        what, is_right = "True or False", isinstance(value, bool)
    elif isinstance(field.default, tuple):
        what, is_right = _KINDS[parse][0], _is_strings(value)
        if isinstance(value, str):
            return _parsed(field, value)
    elif int in types or float in types:
        what = "a whole number, or a string" if str in types else _KINDS[parse][0]
        if isinstance(value, str) and str not in types and str in _KINDS[parse][1]:
            return _parsed(field, value)
        # numpy's numbers are numbers, too.
        is_number = hasattr(value, "__index__" if int in types else "__float__") and not isinstance(
            value, bool
        )
        is_right = is_number or (isinstance(value, str) and str in types)
    else:
        is_path = os.PathLike[str] in types
        what = "a path" if is_path else _KINDS[parse][0] if parse in _KINDS else "a string"
        is_right = isinstance(value, (str, os.PathLike) if is_path else str)
    if not is_right and not (value is None and type(None) in types):
        raise ConfigurationError(f"{name}={reprlib.repr(value)}: it must be {what}")
    return value


def _parsed(field: "dataclasses.Field[Any]", text: str) -> object:
    try:
        return field.metadata["option"].parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{flags_of(field)[0]}: {error}") from None


def _is_strings(value: Any) -> bool:
    """Whether a value is a string, or a collection of strings, such as an array."""
    if isinstance(value, str):
        return True
    is_collection = hasattr(value, "__iter__") and hasattr(value, "__len__")
    return is_collection and not isinstance(value, Mapping) and all(isinstance(each, str) for each in value)


def _of_variable(variable: str, name: str, text: str) -> object:
    options = server_options()
    if name not in options:
        known = [f"{_PREFIX}{each.upper()}" for each in options]
        raise ConfigurationError(f"{variable}: there is no such setting{nearest(variable, known)}")
    field = options[name]
    parse = _switch if isinstance(field.default, bool) else field.metadata["option"].parse
    try:
        return _checked(name, parse(text))
    except ConfigurationError as error:
        raise ConfigurationError(f"{variable}={text}: {error}") from None
    except ValueError:  # raised by `int` and `float`
        raise ConfigurationError(f"{variable}={text}: it must be {_KINDS[parse][0]}") from None


def _switch(text: str) -> bool:
    try:
        return _SWITCH[text.lower()]
    except KeyError:
        raise ConfigurationError("it must be yes or no") from None


def _checked(name: str, value: Any) -> object:
    """Return a value if it is valid for this setting by itself; raise `ConfigurationError` otherwise."""
    try:
        ServerConfig(**(_companions(name, value) | {name: value}))
    except ConfigurationError as error:
        text = str(error)
        for flag in flags_of(server_options()[name]):
            text = text.replace(flag, name)
        raise ConfigurationError(text) from None
    return value


def _companions(name: str, value: object) -> dict[str, Any]:
    """Return values for other settings that could otherwise make this one invalid by itself."""
    companions: dict[str, Any] = {"cmd_port": 0, "data_port": 0}  # both ports may be 0
    if name.startswith("service_"):
        other = "12:00" if value == "00:00" else "00:00"
        companions["service_stop" if name == "service_start" else "service_start"] = other
    return companions


def _elsewhere(text: str, sources: Mapping[str, str]) -> list[str]:
    """Return the sources of the settings that an error names, unless they were given."""
    fields = server_options()
    return [
        f"{name} is from {where}"
        for name, where in sources.items()
        if where != _GIVEN
        and any(re.search(rf"(?<![\w-]){flag}(?![\w-])", text) for flag in flags_of(fields[name]))
    ]
