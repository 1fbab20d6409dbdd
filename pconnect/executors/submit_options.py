"""The options of `submit`, whose other keyword arguments belong to the called function."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pconnect.commands.function_pickling import describe
from pconnect.errors import ConfigurationError


def given_options(
    function: Callable[..., Any] | str, *, allow_pickle: bool | None, seed: int | None
) -> dict[str, Any]:
    """Return the options that a call of `submit` sets, for its executor.

    Raises `ConfigurationError` if the function has a parameter with the name of one of them.
    """
    if allow_pickle is None and seed is None:
        return {}
    options = {"allow_pickle": allow_pickle, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    _check_ambiguity(function, given)
    return given


def _check_ambiguity(function: Callable[..., Any] | str, options: Iterable[str]) -> None:
    try:
        parameters = inspect.signature(function).parameters  # type: ignore[arg-type] # a string has none
    except (TypeError, ValueError):
        return
    for name in options:
        if name in parameters and parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY:
            raise ConfigurationError(
                f"{describe(function)} and submit both have a parameter {name}: for the function, submit "
                f"functools.partial(function, {name}=...); for the job, use net.executor({name}=...).submit(function)"
            )
