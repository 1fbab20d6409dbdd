"""Numerical computing on several machines, from a script or notebook.

`pconnect` logs in at servers and returns a `Network`; `reval` runs code there, `psend` and `precv` move values between
any two nodes, `select_sockets` waits for many; collective calls such as `bcast` and `allreduce` are made by all members
of a network; `sclose` ends it all. `local_network` needs no second machine.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pconnect.client import pconnect
    from pconnect.collectives import allgather, allreduce, alltoall, barrier, bcast, gather, reduce, scatter
    from pconnect.commands import Command, Commands
    from pconnect.connection import Connection
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
        UnreadableValueError,
        UnsupportedValueError,
    )
    from pconnect.gauges import progress_bars
    from pconnect.joblib_names import register_joblib_backend
    from pconnect.jobs import Job
    from pconnect.local import local_network, start_local_network
    from pconnect.network import Network
    from pconnect.primitives import precv, psend, select_sockets
    from pconnect.registered_types import register_type
    from pconnect.remote import network_get_info, quiet, reval, rfeval, sclose
    from pconnect.restarts import restart
    from pconnect.versions import VersionWarning

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

_HOMES = {
    "pconnect": "client",
    "allgather": "collectives",
    "allreduce": "collectives",
    "alltoall": "collectives",
    "barrier": "collectives",
    "bcast": "collectives",
    "gather": "collectives",
    "reduce": "collectives",
    "scatter": "collectives",
    "Command": "commands",
    "Commands": "commands",
    "Connection": "connection",
    "progress_bars": "gauges",
    "register_joblib_backend": "joblib_names",
    "Job": "jobs",
    "local_network": "local",
    "start_local_network": "local",
    "Network": "network",
    "precv": "primitives",
    "psend": "primitives",
    "select_sockets": "primitives",
    "register_type": "registered_types",
    "restart": "restarts",
    "network_get_info": "remote",
    "quiet": "remote",
    "reval": "remote",
    "rfeval": "remote",
    "sclose": "remote",
    "VersionWarning": "versions",
}


def __getattr__(name: str) -> object:
    """Import what is used when it is first used: the daemon needs `pconnect.frames` alone, and no numpy (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'pconnect' has no attribute {name!r}")
    home = importlib.import_module(f"pconnect.{_HOMES.get(name, 'errors')}")
    value: object = getattr(home, name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """Do what ``%load_ext pconnect`` is for; see `pconnect.magics`."""
    importlib.import_module("pconnect.magics").load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Do what ``%unload_ext pconnect`` is for."""
    importlib.import_module("pconnect.magics").unload(shell)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
