"""Numerical computing on several machines, from a script or notebook.

`pconnect` logs in to servers and returns a `Network`. `reval` runs code on its engines, `psend` and `precv` move values
between any two nodes, and `select_sockets` waits for several of them. All members of a network make collective calls
such as `bcast` and `allreduce` together. `sclose` ends the network. `local_network` works on this machine alone.
"""

from typing import TYPE_CHECKING, Any

from srp_tools.packages import import_own, module_attribute

if TYPE_CHECKING:
    from pconnect.commands.command import Command as Command
    from pconnect.commands.command_list import Commands as Commands
    from pconnect.connect import pconnect as pconnect
    from pconnect.errors import AuthenticationError as AuthenticationError
    from pconnect.errors import CollectiveError as CollectiveError
    from pconnect.errors import ConfigurationError as ConfigurationError
    from pconnect.errors import ConnectError as ConnectError
    from pconnect.errors import ConnectionLostError as ConnectionLostError
    from pconnect.errors import CredentialError as CredentialError
    from pconnect.errors import DeadlockError as DeadlockError
    from pconnect.errors import EngineDiedError as EngineDiedError
    from pconnect.errors import InboxFullError as InboxFullError
    from pconnect.errors import JobLostError as JobLostError
    from pconnect.errors import MessageTooLargeError as MessageTooLargeError
    from pconnect.errors import ParallelError as ParallelError
    from pconnect.errors import ProcessFailedError as ProcessFailedError
    from pconnect.errors import ProtocolError as ProtocolError
    from pconnect.errors import RemoteError as RemoteError
    from pconnect.errors import ServerBusyError as ServerBusyError
    from pconnect.errors import ServerRefusedError as ServerRefusedError
    from pconnect.errors import UnavailableTypeError as UnavailableTypeError
    from pconnect.errors import UnknownServiceError as UnknownServiceError
    from pconnect.errors import UnreadableValueError as UnreadableValueError
    from pconnect.errors import UnsupportedValueError as UnsupportedValueError
    from pconnect.executors.as_completed import as_completed as as_completed
    from pconnect.joblib.register import register_joblib_backend as register_joblib_backend
    from pconnect.jobs.job import Job as Job
    from pconnect.jobs.random_streams import rng as rng
    from pconnect.link.connection import Connection as Connection
    from pconnect.link.missing_hosts import MissingHostsWarning as MissingHostsWarning
    from pconnect.local import local_network as local_network
    from pconnect.local import start_local_network as start_local_network
    from pconnect.loop.network import Network as Network
    from pconnect.loop.progress_bars import progress_bars as progress_bars
    from pconnect.messaging.collectives import allgather as allgather
    from pconnect.messaging.collectives import allreduce as allreduce
    from pconnect.messaging.collectives import alltoall as alltoall
    from pconnect.messaging.collectives import barrier as barrier
    from pconnect.messaging.collectives import bcast as bcast
    from pconnect.messaging.collectives import gather as gather
    from pconnect.messaging.collectives import reduce as reduce
    from pconnect.messaging.collectives import scatter as scatter
    from pconnect.messaging.send_receive import precv as precv
    from pconnect.messaging.send_receive import psend as psend
    from pconnect.messaging.send_receive import select_sockets as select_sockets
    from pconnect.one_process.network import serial as serial
    from pconnect.programs.completed import ProgramFailedError as ProgramFailedError
    from pconnect.programs.completed import ProgramTimeoutError as ProgramTimeoutError
    from pconnect.programs.template import program as program
    from pconnect.routes.keeper import RouteWarning as RouteWarning
    from pconnect.session.octave_api import network_get_info as network_get_info
    from pconnect.session.octave_api import quiet as quiet
    from pconnect.session.octave_api import reval as reval
    from pconnect.session.octave_api import rfeval as rfeval
    from pconnect.session.octave_api import sclose as sclose
    from pconnect.session.restart import restart as restart
    from pconnect.session.versions import VersionWarning as VersionWarning
    from pconnect.values.registry import register_type as register_type

# The public names, by the module that defines them.
_EXPORTS = {
    "commands.command": "Command",
    "commands.command_list": "Commands",
    "connect": "pconnect",
    "errors": (
        "AuthenticationError CollectiveError ConfigurationError ConnectError ConnectionLostError "
        "CredentialError DeadlockError EngineDiedError InboxFullError JobLostError MessageTooLargeError "
        "ParallelError ProcessFailedError ProtocolError RemoteError ServerBusyError ServerRefusedError "
        "UnavailableTypeError UnknownServiceError UnreadableValueError UnsupportedValueError"
    ),
    "executors.as_completed": "as_completed",
    "joblib.register": "register_joblib_backend",
    "jobs.job": "Job",
    "jobs.random_streams": "rng",
    "link.connection": "Connection",
    "link.missing_hosts": "MissingHostsWarning",
    "routes.keeper": "RouteWarning",
    "local": "local_network start_local_network",
    "loop.network": "Network",
    "loop.progress_bars": "progress_bars",
    "messaging.collectives": "allgather allreduce alltoall barrier bcast gather reduce scatter",
    "messaging.send_receive": "precv psend select_sockets",
    "one_process.network": "serial",
    "programs.completed": "ProgramFailedError ProgramTimeoutError",
    "programs.template": "program",
    "session.octave_api": "network_get_info quiet reval rfeval sclose",
    "session.restart": "restart",
    "session.versions": "VersionWarning",
    "values.registry": "register_type",
}
_HOMES = {name: home for home, names in _EXPORTS.items() for name in names.split()}
__all__ = list(_HOMES)

__version__: str


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562): the daemon needs only `protocol.frames`, and not numpy."""
    if name not in _HOMES:
        return module_attribute(__name__, name)
    home = import_own(f"pconnect.{_HOMES[name]}")
    value: object = getattr(home, name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """Load the IPython extension for ``%load_ext pconnect``; see `pconnect.notebook.magics`."""
    import_own("pconnect.notebook.magics").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Unload the IPython extension for ``%unload_ext pconnect``."""
    import_own("pconnect.notebook.magics").unload(shell)


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
