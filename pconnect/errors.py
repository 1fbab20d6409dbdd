"""The errors of messages and commands, and those of `srp_tools` beneath them: the whole tree.

.. code-block:: text

    ParallelError
    ├── ConfigurationError (ValueError)
    ├── CredentialError (ValueError)
    ├── AuthenticationError (PermissionError)
    ├── ConnectError (ConnectionError)
    ├── ConnectionLostError (ConnectionError)    a peer is gone; its connection is closed
    │   ├── ServerBusyError                      too many clients want to log in at a server
    │   ├── EngineDiedError                      the engine of a node ended before its time; says how
    │   └── JobLostError                         a job ended with its process or machine; says how
    ├── ProtocolError (ValueError)               the peer broke the format; the connection is closed
    ├── UnsupportedValueError (TypeError)        nothing was sent
    ├── MessageTooLargeError (ValueError)        nothing was sent
    ├── InboxFullError (BufferError)             what has come must be received before more can come
    ├── CollectiveError (RuntimeError)           a collective call cannot be completed; all connections live on
    ├── DeadlockError (RuntimeError)             nodes wait for each other; says who for whom; all of it lives on
    ├── UnreadableValueError (ValueError)        one value arrived that cannot be made here; the connection lives on
    │   └── UnavailableTypeError (ImportError)   because a package or a registration is missing here
    ├── ProcessFailedError (RuntimeError)        a process beside an engine could not start; its last words
    ├── UnknownServiceError (LookupError)        the server lacks what the client has called; says both versions
    ├── InternalError (RuntimeError)             a bug in this library: something happened that cannot happen
    └── RemoteError (RuntimeError)               a command failed; the engine goes on

A time limit that has passed raises the builtin `TimeoutError`.
"""

import collections.abc
import typing

from srp_tools.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    CredentialError,
    ParallelError,
    ServerBusyError,
)

__all__ = [
    "AuthenticationError",
    "CollectiveError",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLostError",
    "CredentialError",
    "DeadlockError",
    "EngineDiedError",
    "InboxFullError",
    "InternalError",
    "JobLostError",
    "MessageTooLargeError",
    "ParallelError",
    "ProcessFailedError",
    "ProtocolError",
    "RemoteError",
    "ServerBusyError",
    "UnavailableTypeError",
    "UnknownServiceError",
    "UnreadableValueError",
    "UnsupportedValueError",
]


class EngineDiedError(ConnectionLostError):
    """The engine of a node ended before its time; the text says how. The other nodes live on."""


class JobLostError(ConnectionLostError):
    """A job has no result: the process or the machine that ran it ended; the text says how, and what it printed last.

    Nobody knows how far it came. Other jobs are not concerned.
    """


class ProcessFailedError(ParallelError, RuntimeError):
    """A process that was to run beside an engine could not start. The text has its node and the last it printed."""


class UnknownServiceError(ParallelError, LookupError):
    """The server lacks a service that the client has called. The text has the versions of both."""


class ProtocolError(ParallelError, ValueError):
    """The peer sent something that is not a message. The connection it came from is closed."""


class UnsupportedValueError(ParallelError, TypeError):
    """A value, or the part of it that the text names, cannot be sent. Nothing was sent."""


class MessageTooLargeError(ParallelError, ValueError):
    """A message would be larger than the network's ``max_message_bytes``. Nothing was sent."""


class InboxFullError(ParallelError, BufferError):
    """What was waited for cannot come: the peer's other values fill the inbox. Nothing is lost; receive those first."""


class InternalError(ParallelError, RuntimeError):
    """A bug in this library: something happened in a state in which it cannot happen. Please report it."""


class CollectiveError(ParallelError, RuntimeError):
    """A collective call cannot be completed, or its members do not make the same call. All connections live on.

    This node and the others take part in no more collective calls until the client's next command.
    """


class DeadlockError(ParallelError, RuntimeError):
    """Nodes wait for each other, so that none of them can ever go on; the text says who for whom, in which command.

    It is raised on the client, and in the commands that wait. Engines, workspaces and all connections live on.

    Attributes
    ----------
    waits
        For each node ``(node, host, command, kind, waits_for)``: its number, its host, the source text of its command
        or ``None``, the call in which it waits, and the numbers of the nodes it waits for.
    """

    waits: collections.abc.Sequence[typing.Any] = ()


class UnreadableValueError(ParallelError, ValueError):
    """A value arrived whole, but cannot be made here. It is lost; the connection and the values after it live on."""


class UnavailableTypeError(UnreadableValueError, ImportError):
    """A value arrived whose type this node lacks; the text says what to install or to register here."""


class RemoteError(ParallelError, RuntimeError):
    """A command failed on a node. The engine, its workspace and all connections live on.

    If the exception there was a builtin one, or derived from one, then what is raised here is of a class that is both a
    `RemoteError` and that builtin, so that ``except ZeroDivisionError`` works; see `pconnect.commands.remote_errors`.

    Attributes
    ----------
    node, host
        Where it failed: the number of the node in its network, and the host as given to `pconnect`.
    command
        The source text that failed.
    type_name
        Name of the exception's type there, such as ``"ZeroDivisionError"``.
    message
        The text of the exception there.
    remote_traceback
        The traceback, as text. The exception itself does not travel: received data cannot run code.
    """

    def __init__(  # noqa: PLR0917 - what `args` has, for pickle
        self, node: int, host: str, command: str, type_name: str, message: str, remote_traceback: str
    ) -> None:
        super().__init__(node, host, command, type_name, message, remote_traceback)
        self.node = node
        self.host = host
        self.command = command
        self.type_name = type_name
        self.message = message
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        return (
            f"{self.type_name} at node {self.node} ({self.host}) in command {shown_source(self.command)!r}\n"
            f"--- traceback of node {self.node} ---\n{self.remote_traceback.rstrip()}"
        )

    @property
    def is_interrupt(self) -> bool:
        """Whether the command was interrupted."""
        return self.type_name == "KeyboardInterrupt"


def shown_source(source: str) -> str:
    """Return how an error shows a command in one line."""
    lines = source.strip().splitlines() or [""]
    return lines[0] if len(lines) == 1 and len(lines[0]) <= 60 else lines[0][:57] + "..."
