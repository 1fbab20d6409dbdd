"""Login with TLS-SRP, and a safe byte stream.

`make_verifier` turns `Credentials` into what a server keeps in a `VerifierFile`; `log_in` and `accept_login` are the
two ends of a login on a connected socket.
"""

import importlib
from typing import TYPE_CHECKING

from srp_tools.version import module_attribute

if TYPE_CHECKING:
    from srp_tools.credentials import Credentials, load_credentials, save_credentials
    from srp_tools.errors import (
        AuthenticationError,
        ConfigurationError,
        ConnectError,
        ConnectionLostError,
        CredentialError,
        ParallelError,
    )
    from srp_tools.login import accept_login, log_in
    from srp_tools.verifier import Verifier, check_password, make_verifier
    from srp_tools.verifier_file import VerifierFile

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "CredentialError",
    "Credentials",
    "ParallelError",
    "Verifier",
    "VerifierFile",
    "accept_login",
    "check_password",
    "load_credentials",
    "log_in",
    "make_verifier",
    "save_credentials",
]

_HOMES = {
    "Credentials": "credentials",
    "load_credentials": "credentials",
    "save_credentials": "credentials",
    "accept_login": "login",
    "log_in": "login",
    "Verifier": "verifier",
    "check_password": "verifier",
    "make_verifier": "verifier",
    "VerifierFile": "verifier_file",
}

__version__: str


def __getattr__(name: str) -> object:
    """Import what is used when it is first used: the daemon needs neither tlslite nor cryptography (PEP 562)."""
    if name not in __all__:
        return module_attribute(__name__, name)
    value: object = getattr(importlib.import_module(f"srp_tools.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
