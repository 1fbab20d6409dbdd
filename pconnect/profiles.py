"""The client's configuration: defaults for the options of `pconnect`.

Options come from the environment first (``PCONNECT_HOSTS``), then from a profile, then from the top level of the file:

.. code-block:: toml

    hosts = ["alpha*4", "beta:12600"]
    user = "alice"

    [profiles.lab]
    hosts = {gamma = 8}
    timeout = 60

The keys are the keyword parameters of `pconnect`, so no second list of them can get out of step. A file that others can
write is refused, because it says which machines you trust.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import parse_hosts
from pconnect.public_names import nearest
from pconnect.toml_file import TomlFile, alternatives, fault, read_toml
from srp_tools.private_files import config_folder

P = ParamSpec("P")
R = TypeVar("R")

# Parameters that concern a single call, or are too secret for a file that others may read.
_NOT_IN_A_FILE = {"profile", "accept", "recover", "resume", "take_over", "password"}
# Parameters that name hosts, in any of the accepted forms.
_HOSTS = {"hosts": "PCONNECT_HOSTS", "join": "PCONNECT_JOIN"}
_ANY = {*_HOSTS, "accept"}  # parameters that are checked elsewhere
# Variables that `pconnect` itself reads if an argument is missing.
_VARIABLES = {"user": "PCONNECT_USER", "password_file": "PCONNECT_PASSWORD"}


def config_file() -> Path:
    """Return the path of the client's configuration file, which need not exist."""
    return config_folder() / "client" / "pconnect.toml"


def configured(function: Callable[P, R]) -> Callable[P, R]:
    """Fill in a function's missing arguments from the environment and the client's configuration.

    An argument of ``None`` counts as missing. ``profile=""`` ignores the configuration.
    """
    signature, kinds = inspect.signature(function), _kinds(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # let the function itself raise the error
        given = {name: value for name, value in bound.arguments.items() if value is not None}
        for name, value in given.items():
            if name not in _ANY and (wrong := fault(name, value, signature.parameters[name].annotation)):
                raise ConfigurationError(f"{function.__name__}: {wrong}")
        bound.arguments |= _left_out(given, kinds)
        return function(*bound.args, **bound.kwargs)

    return call


def check_configuration(function: Callable[..., Any]) -> bool:
    """Check the client's configuration for a function that is `configured`; return whether the file exists.

    Raises `ConfigurationError` if the configuration cannot be used; the text says where it is wrong.
    """
    _of_file(None, _kinds(function))
    return config_file().exists()


def configured_options(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options that a `configured` function would take from the configuration in a call without arguments.

    Options whose variable is set, such as ``PCONNECT_USER``, are left out. Raises the same errors as such a call.
    """
    return _left_out({}, _kinds(function))


class NoHostsError(ConfigurationError):
    """A call has no hosts, and neither has the configuration. `remedy`: which line to add to which file."""

    def __init__(self) -> None:
        self.remedy = f'write to {config_file()} a line such as hosts = ["alpha*4", "beta:12600"]'
        super().__init__(
            'no hosts given: name them, as in pconnect(["alpha", "beta:12600"]), '
            f'set PCONNECT_HOSTS="alpha beta:12600", or {self.remedy}; '
            "to use this machine alone, with no server and no port, use local_network()"
        )

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()


def _kinds(function: Callable[..., Any]) -> dict[str, object]:
    """Return the types of the parameters that the file may set."""
    parameters = inspect.signature(function).parameters
    return {name: each.annotation for name, each in parameters.items() if name not in _NOT_IN_A_FILE}


def _left_out(given: Mapping[str, object], kinds: Mapping[str, object]) -> dict[str, object]:
    """Return values for the missing arguments; `kinds` has the type of each parameter that the file may set."""
    profile = given.get("profile", os.environ.get("PCONNECT_PROFILE") or None)
    values = {} if profile == "" else _of_file(profile, kinds)
    texts = {name: os.environ.get(variable, "").strip() for name, variable in _HOSTS.items()}
    named = {name: _named(name, text, _HOSTS[name]) for name, text in texts.items() if text}
    values = _without_others(values, named) | named
    values = _without_others(values, given)
    values = {name: value for name, value in values.items() if not os.environ.get(_VARIABLES.get(name, ""))}
    return {name: value for name, value in values.items() if name not in given}


def _without_others(values: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Return the options without hosts and pools, where the given arguments name other ones.

    ``join=True`` and ``join=False`` name no pool.
    """
    names_pools = not isinstance(given.get("join", True), bool)
    without = {"join"} if given.keys() & {"hosts", "recover"} else set()
    without |= {"hosts"} if names_pools or "recover" in given else set()
    return {name: value for name, value in values.items() if name not in without}


def _of_file(profile: object, kinds: Mapping[str, object]) -> dict[str, object]:
    """Return the options of a profile, or without one those at the top level of the file."""
    path = config_file()
    toml = read_toml(path)
    if toml is None:
        if profile is not None:
            raise ConfigurationError(
                f"profile {profile!r}: there is no file {path}; create it with the line [profiles.{profile}] and below "
                'it a line such as hosts = ["alpha*4", "beta:12600"]'
            )
        return {}
    file, found = _File(toml, kinds), dict(toml.content)
    profiles = found.pop("profiles", {})
    if not isinstance(profiles, dict):
        raise toml.error(("profiles",), "profiles must be tables, such as [profiles.lab]")
    options = file.options(found, ())
    for name, table in profiles.items():
        if not isinstance(table, dict):
            raise toml.error(("profiles", name), f"a profile must be a table: write [profiles.{name}]")
        checked = file.options(table, ("profiles", name))
        options |= checked if name == profile else {}
    if profile is not None and profile not in profiles:
        hint = nearest(str(profile), list(profiles)) if profiles else " (it has none)"
        raise ConfigurationError(f"{path} has no profile {profile!r}{hint}")
    return options


class _File:
    """The options in the configuration file, and errors that name the line."""

    def __init__(self, toml: TomlFile, kinds: Mapping[str, object]) -> None:
        self._toml = toml
        self._kinds = kinds

    def options(self, table: Mapping[str, object], place: tuple[str, ...]) -> dict[str, object]:
        """Return the options of a table, or raise for the first invalid one."""
        return {name: self._option(name, value, (*place, name)) for name, value in table.items()}

    def _option(self, name: str, value: object, place: tuple[str, ...]) -> object:
        if name == "password":
            raise self._toml.error(
                place, "a password must not be in this file; generate-srp-data stores it in a private one"
            )
        if name not in self._kinds:
            is_profile = isinstance(value, dict) and len(place) == 1 and name not in _NOT_IN_A_FILE
            hint = (
                f"; write [profiles.{name}] for a profile"
                if is_profile
                else nearest(name, ["profiles", *self._kinds])
            )
            raise self._toml.error(place, f"{name!r} is not an option of pconnect{hint}")
        if name in _HOSTS:
            return _named(name, value, self._toml.where(place))
        if wrong := fault(name, value, self._kinds[name]):
            raise self._toml.error(place, wrong)
        if Path in alternatives(self._kinds[name]):
            return self._toml.path.parent / os.path.expanduser(str(value))  # noqa: PTH111 - this never raises
        return value


def _named(name: str, value: object, where: str) -> object:
    """Return the hosts in a file or a variable; a string has the format of PCONNECT_HOSTS."""
    if name == "join" and str(value).lower() in {"true", "false"}:
        return str(value).lower() == "true"
    hosts = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        parse_hosts(hosts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return hosts
