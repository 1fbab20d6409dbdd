"""Log in with TLS-SRP and get a secure byte stream.

`generate_srp_data` creates a user. `make_verifier` turns `Credentials` into the verifier that a server keeps in a
`VerifierFile`. `log_in` and `accept_login` are the two ends of a login on a connected socket.
"""

from typing import TYPE_CHECKING

from srp_tools.packages import import_own, module_attribute

if TYPE_CHECKING:
    from srp_tools.credentials import Credentials as Credentials
    from srp_tools.credentials import load_credentials as load_credentials
    from srp_tools.credentials import save_credentials as save_credentials
    from srp_tools.errors import AuthenticationError as AuthenticationError
    from srp_tools.errors import ConfigurationError as ConfigurationError
    from srp_tools.errors import ConnectError as ConnectError
    from srp_tools.errors import ConnectionLostError as ConnectionLostError
    from srp_tools.errors import CredentialError as CredentialError
    from srp_tools.errors import ParallelError as ParallelError
    from srp_tools.errors import ServerBusyError as ServerBusyError
    from srp_tools.generate import SrpData as SrpData
    from srp_tools.generate import generate_srp_data as generate_srp_data
    from srp_tools.login import accept_login as accept_login
    from srp_tools.login import log_in as log_in
    from srp_tools.verifier import Verifier as Verifier
    from srp_tools.verifier import check_password as check_password
    from srp_tools.verifier import make_verifier as make_verifier
    from srp_tools.verifier_file import VerifierFile as VerifierFile

# The exported names, by the module that defines them.
_EXPORTS = {
    "credentials": "Credentials load_credentials save_credentials",
    "errors": (
        "AuthenticationError ConfigurationError ConnectError ConnectionLostError CredentialError "
        "ParallelError ServerBusyError"
    ),
    "generate": "SrpData generate_srp_data",
    "login": "accept_login log_in",
    "verifier": "Verifier check_password make_verifier",
    "verifier_file": "VerifierFile",
}
_HOMES = {name: home for home, names in _EXPORTS.items() for name in names.split()}
__all__ = list(_HOMES)

__version__: str


def __getattr__(name: str) -> object:
    """Import a name when it is first used (PEP 562): the daemon needs neither tlslite nor cryptography."""
    if name not in _HOMES:
        return module_attribute(__name__, name)
    value: object = getattr(import_own(f"srp_tools.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
