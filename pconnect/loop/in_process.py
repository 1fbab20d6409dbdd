"""A network that runs everything in this process, as seen by calls that take a network or a node.

See `pconnect.serial`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from pconnect.errors import ConfigurationError


class InProcess:
    """An in-process network, a part of it, or one of its nodes."""

    def reval(self, source: str) -> Any:
        """Run source code, like `pconnect.reval`."""
        raise NotImplementedError

    def rfeval(self, function: Callable[..., Any] | str, args: Sequence[object]) -> Any:
        """Call a function, like `pconnect.rfeval`."""
        raise NotImplementedError


def no_messages() -> ConfigurationError:
    """Return the error for `psend`, `precv` and similar calls."""
    return missing("sending values between nodes", "use local_network()")


def missing(what: str, instead: str) -> ConfigurationError:
    """Return the error for a feature that needs several processes."""
    return ConfigurationError(
        f"{what} is not available with pconnect.serial(), which runs everything in this process: {instead}"
    )
