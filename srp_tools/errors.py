"""The root of all errors, and the errors of logging in.

.. code-block:: text

    ParallelError
    ├── ConfigurationError (ValueError)          an option, a host name or a user name that cannot be
    ├── CredentialError (ValueError)             a file of credentials or verifiers: missing, open to others, malformed
    ├── AuthenticationError (PermissionError)    the peer is not who it has to be, or does not accept us
    ├── ConnectError (ConnectionError)           a network could not be made; names each host and its reason
    └── ConnectionLostError (ConnectionError)    a peer is gone; its connection is closed
        └── ServerBusyError                      too many clients want to log in; a later try may succeed

`pconnect.errors` adds those of messages and commands. A time limit that has passed raises the builtin `TimeoutError`.
"""

from collections.abc import Mapping

from srp_tools.printable import printable_text


class ParallelError(Exception):
    """Root of every error that srp_tools, pconnect and pserver raise on purpose.

    Much of what such a text names (files, users, hosts, reasons) comes from other machines: it is shown printable.
    """

    def __str__(self) -> str:
        return printable_text(super().__str__())


class ConfigurationError(ParallelError, ValueError):
    """An option, a host name or a user name cannot be used. Nothing was done."""


class CredentialError(ParallelError, ValueError):
    """A file of credentials or verifiers is missing, malformed, or open to others. Nothing was done."""


class AuthenticationError(ParallelError, PermissionError):
    """The peer did not prove who it is, or did not accept our proof. The connection is closed."""


class ConnectionLostError(ParallelError, ConnectionError):
    """A peer is gone, or does not speak our protocol. The connection is closed; how much arrived is unknown."""


class ServerBusyError(ConnectionLostError):
    """A server has turned this client away because too many want to log in. The connection is closed."""


class ConnectError(ParallelError, ConnectionError):
    """A network could not be made. Every connection made on the way is closed.

    Parameters
    ----------
    reasons
        For each host that failed, as it was given to `pconnect`, the error met there.
    """

    def __init__(self, reasons: Mapping[str, BaseException]) -> None:
        lines = [f"{host}: {reason}" for host, reason in reasons.items()]
        super().__init__(
            f"could not connect to {lines[0]}"
            if len(lines) == 1
            else "\n  ".join([f"could not connect to {len(lines)} hosts:", *lines])
        )
        self.reasons = dict(reasons)
