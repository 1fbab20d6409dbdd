"""The options of `submit`, whose other keywords are those of the function that it has called."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from pconnect.commands.function_pickling import describe
from pconnect.errors import ConfigurationError


def given_options(
    function: Callable[..., Any] | str, *, allow_pickle: bool | None, seed: int | None
) -> dict[str, Any]:
    """Return the options that a call of `submit` gives, for its executor.

    Raises `ConfigurationError` if the function has a parameter of such a name.
    """
    if allow_pickle is None and seed is None:
        return {}
    options = {"allow_pickle": allow_pickle, "seed": seed}
    given = {name: value for name, value in options.items() if value is not None}
    _check_ambiguity(function, given)
    return given


def _check_ambiguity(function: Callable[..., Any] | str, options: Iterable[str]) -> None:
    try:
        parameters = inspect.signature(function).parameters  # type: ignore[arg-type] # an expression has none
    except (TypeError, ValueError):
        return
    for name in options:
        if name in parameters and parameters[name].kind is not inspect.Parameter.POSITIONAL_ONLY:
            raise ConfigurationError(
                f"{describe(function)} has a parameter {name}, and so has submit: for the function, submit "
                f"functools.partial(function, {name}=...); for its job, net.executor({name}=...).submit(function)"
            )
