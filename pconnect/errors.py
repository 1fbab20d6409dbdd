"""The errors of messages and commands, and those of `srp_tools` beneath them: the whole tree.

.. code-block:: text

    ParallelError
    ├── ConfigurationError (ValueError)
    ├── CredentialError (ValueError)
    ├── AuthenticationError (PermissionError)
    ├── ConnectError (ConnectionError)
    ├── ConnectionLostError (ConnectionError)    a peer is gone; its connection is closed
    │   ├── ServerBusyError                      too many clients want to log in at a server
    │   ├── ServerRefusedError                   a server takes no new session of this user now; says why
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
import contextlib
import platform
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
from srp_tools.packages import distribution_version

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
    "ServerRefusedError",
    "UnavailableTypeError",
    "UnknownServiceError",
    "UnreadableValueError",
    "UnsupportedValueError",
]

#: Fields of builtin classes that are no more than data on the client, too. Python makes more of others when it shows an
#: error, and would do so in the wrong process: with ``name_from`` of an `ImportError` it imports, with ``filename`` of
#: a `SyntaxError` it reads a file, with ``name`` of a `NameError` it guesses what was meant.
BUILTIN_FIELDS: collections.abc.Mapping[type[BaseException], collections.abc.Sequence[str]] = {
    BaseException: ("args",),
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("name", "path"),
    UnicodeEncodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeDecodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeTranslateError: ("object", "start", "end", "reason"),
}


def builtin_fields(kind: type[BaseException]) -> dict[str, typing.Any]:
    """Return the descriptors of the fields of `BUILTIN_FIELDS` that the exceptions of a class have.

    Examples
    --------
    >>> list(builtin_fields(FileNotFoundError))
    ['args', 'errno', 'strerror', 'filename', 'filename2']
    """
    bases = [(base, names) for base, names in BUILTIN_FIELDS.items() if issubclass(kind, base)]
    return {name: vars(base)[name] for base, names in bases for name in names}


class ServerRefusedError(ConnectionLostError):
    """A server knows this user, but takes no new session now; the text names the server and says why.

    It is drained, closed at this hour, or has as many sessions as it may have. The connection is closed.
    """


class EngineDiedError(ConnectionLostError):
    """The engine of a node ended before its time; the text says how. The other nodes live on."""


class JobLostError(ConnectionLostError):
    """A job has no result: the process or the machine that ran it ended; the text says how, and what it printed last.

    It is not known how far it came. Other jobs go on.
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
    """A bug in this library: something happened in a state in which it cannot happen. Please report it.

    The text ends with what a report needs: the versions of this package and of Python.
    """

    def __str__(self) -> str:
        ours, pythons = distribution_version(), platform.python_version()
        return f"{super().__str__()} (a bug of pserver {ours} with Python {pythons}: please report it)"


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
    args
        Those of the exception there, as in ``KeyError.args[0]``, if they are plain values that are short; else its text
        alone. What Python's own exceptions have besides, such as ``OSError.errno`` and ``filename``, is here likewise.
    """

    def __init__(  # noqa: PLR0917 - all that is known of a failure
        self, node: int, host: str, command: str, type_name: str, message: str, remote_traceback: str
    ) -> None:
        super().__init__(message)
        self.node = node
        self.host = host
        self.command = command
        self.type_name = type_name
        self.message = message
        self.remote_traceback = remote_traceback
        #: By name, what the exception there had in fields of builtin classes; `restore` sets them.
        self.fields: collections.abc.Mapping[str, object] = {}

    def restore(self, fields: collections.abc.Mapping[str, object]) -> None:
        """Set what the exception there had in the fields of `BUILTIN_FIELDS`. Others are left out."""
        if isinstance(self, SyntaxError):
            self.msg = str(self)  # Python shows this instead
        for name in builtin_fields(type(self)).keys() & fields.keys():
            with contextlib.suppress(TypeError, OverflowError):  # a malicious engine may say anything
                setattr(self, name, fields[name])
                self.fields = {**self.fields, name: fields[name]}

    def __reduce__(self) -> tuple[object, ...]:
        facts = (self.node, self.host, self.command, self.type_name, self.message, self.remote_traceback)
        return type(self), facts, {**vars(self), **self.fields}

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
