"""Numerical computing on several machines, from a script or notebook.

`pconnect` logs in at servers and returns a `Network`; `reval` runs code there, `psend` and `precv` move values between
any two nodes, `select_sockets` waits for many; collective calls such as `bcast` and `allreduce` are made by all members
of a network; `sclose` ends it all. `local_network` needs no second machine.
"""

import importlib
from typing import TYPE_CHECKING, Any

from srp_tools.version import module_attribute

if TYPE_CHECKING:
    from pconnect.commands.command import Command
    from pconnect.commands.command_list import Commands
    from pconnect.connect import pconnect
    from pconnect.errors import (
        AuthenticationError,
        CollectiveError,
        ConfigurationError,
        ConnectError,
        ConnectionLostError,
        CredentialError,
        DeadlockError,
        EngineDiedError,
        InboxFullError,
        JobLostError,
        MessageTooLargeError,
        ParallelError,
        ProcessFailedError,
        ProtocolError,
        RemoteError,
        UnavailableTypeError,
        UnknownServiceError,
        UnreadableValueError,
        UnsupportedValueError,
    )
    from pconnect.joblib.register import register_joblib_backend
    from pconnect.jobs.job import Job
    from pconnect.link.connection import Connection
    from pconnect.local import local_network, start_local_network
    from pconnect.loop.network import Network
    from pconnect.loop.progress_bars import progress_bars
    from pconnect.messaging.collectives import (
        allgather,
        allreduce,
        alltoall,
        barrier,
        bcast,
        gather,
        reduce,
        scatter,
    )
    from pconnect.messaging.send_receive import precv, psend, select_sockets
    from pconnect.session.octave_api import network_get_info, quiet, reval, rfeval, sclose
    from pconnect.session.restart import restart
    from pconnect.session.versions import VersionWarning
    from pconnect.values.registry import register_type

__all__ = [
    "AuthenticationError",
    "CollectiveError",
    "Command",
    "Commands",
    "ConfigurationError",
    "ConnectError",
    "Connection",
    "ConnectionLostError",
    "CredentialError",
    "DeadlockError",
    "EngineDiedError",
    "InboxFullError",
    "Job",
    "JobLostError",
    "MessageTooLargeError",
    "Network",
    "ParallelError",
    "ProcessFailedError",
    "ProtocolError",
    "RemoteError",
    "UnavailableTypeError",
    "UnknownServiceError",
    "UnreadableValueError",
    "UnsupportedValueError",
    "VersionWarning",
    "allgather",
    "allreduce",
    "alltoall",
    "barrier",
    "bcast",
    "gather",
    "local_network",
    "network_get_info",
    "pconnect",
    "precv",
    "progress_bars",
    "psend",
    "quiet",
    "reduce",
    "register_joblib_backend",
    "register_type",
    "restart",
    "reval",
    "rfeval",
    "scatter",
    "sclose",
    "select_sockets",
    "start_local_network",
]

__version__: str

_HOMES = {
    "pconnect": "connect",
    "Command": "commands.command",
    "Commands": "commands.command_list",
    "Job": "jobs.job",
    "register_joblib_backend": "joblib.register",
    "Connection": "link.connection",
    "local_network": "local",
    "start_local_network": "local",
    "progress_bars": "loop.progress_bars",
    "Network": "loop.network",
    "allgather": "messaging.collectives",
    "allreduce": "messaging.collectives",
    "alltoall": "messaging.collectives",
    "barrier": "messaging.collectives",
    "bcast": "messaging.collectives",
    "gather": "messaging.collectives",
    "reduce": "messaging.collectives",
    "scatter": "messaging.collectives",
    "precv": "messaging.send_receive",
    "psend": "messaging.send_receive",
    "select_sockets": "messaging.send_receive",
    "network_get_info": "session.octave_api",
    "quiet": "session.octave_api",
    "reval": "session.octave_api",
    "rfeval": "session.octave_api",
    "sclose": "session.octave_api",
    "restart": "session.restart",
    "VersionWarning": "session.versions",
    "register_type": "values.registry",
}


def __getattr__(name: str) -> object:
    """Import what is used when it is first used: the daemon needs `protocol.frames` alone, and no numpy (PEP 562)."""
    if name not in __all__:
        return module_attribute(__name__, name)
    home = importlib.import_module(f"pconnect.{_HOMES.get(name, 'errors')}")
    value: object = getattr(home, name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """Do what ``%load_ext pconnect`` is for; see `pconnect.notebook.magics`."""
    importlib.import_module("pconnect.notebook.magics").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Do what ``%unload_ext pconnect`` is for."""
    importlib.import_module("pconnect.notebook.magics").unload(shell)


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
