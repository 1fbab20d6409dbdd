"""What calls that take a network or a node know of one that runs everything in this process; see `pconnect.serial`."""

from collections.abc import Callable, Sequence
from typing import Any

from pconnect.errors import ConfigurationError


class InProcess:
    """Such a network, a part of it, or a node."""

    def reval(self, source: str) -> Any:
        """Do what `pconnect.reval` does."""
        raise NotImplementedError

    def rfeval(self, function: Callable[..., Any] | str, args: Sequence[object]) -> Any:
        """Do what `pconnect.rfeval` does."""
        raise NotImplementedError


def no_messages() -> ConfigurationError:
    """Return the error for `psend`, `precv` and the like."""
    return missing("what one node sends to another", "use local_network()")


def missing(what: str, instead: str) -> ConfigurationError:
    """Return the error for what one process cannot do."""
    return ConfigurationError(
        f"{what} cannot be had from pconnect.serial(), which runs everything in this process: {instead}"
    )
