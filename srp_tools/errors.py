"""The root of all errors, and the login errors.

.. code-block:: text

    ParallelError
    ├── ConfigurationError (ValueError)          an option, a host name or a user name is not allowed
    ├── CredentialError (ValueError)             a credentials or verifier file is missing, malformed or open to others
    ├── AuthenticationError (PermissionError)    the peer did not prove its identity, or did not accept ours
    ├── ConnectError (ConnectionError)           connecting a network failed; names each host and its reason
    └── ConnectionLostError (ConnectionError)    a peer is gone; its connection is closed
        └── ServerBusyError                      too many clients are logging in; try again later

`pconnect.errors` adds the errors of messages and commands. An expired time limit raises the built-in `TimeoutError`.
"""

from collections.abc import Mapping

from srp_tools.printable import printable_text


class ParallelError(Exception):
    """Root of every error that srp_tools, pconnect and pserver raise on purpose.

    Much of an error's text (files, users, hosts, reasons) comes from other machines, so it is made safe to print.
    """

    def __str__(self) -> str:
        return printable_text(super().__str__())


class ConfigurationError(ParallelError, ValueError):
    """An option, a host name or a user name is not allowed. Nothing was done."""


class CredentialError(ParallelError, ValueError):
    """A credentials or verifier file is missing, malformed, or accessible to others. Nothing was done."""


class AuthenticationError(ParallelError, PermissionError):
    """The peer did not prove its identity, or did not accept our proof. The connection is closed."""


class ConnectionLostError(ParallelError, ConnectionError):
    """The peer is gone, or does not use our protocol. The connection is closed; it is unknown how much data arrived."""


class ServerBusyError(ConnectionLostError):
    """A server turned this client away because too many clients are logging in. The connection is closed."""


class ConnectError(ParallelError, ConnectionError):
    """Connecting a network failed. All connections opened so far are closed.

    Parameters
    ----------
    reasons
        The error for each host that failed, by the name given to `pconnect`.
    """

    def __init__(self, reasons: Mapping[str, BaseException]) -> None:
        lines = [f"{host}: {reason}" for host, reason in reasons.items()]
        super().__init__(
            f"could not connect to {lines[0]}"
            if len(lines) == 1
            else "\n  ".join([f"could not connect to {len(lines)} hosts:", *lines])
        )
        self.reasons = dict(reasons)
