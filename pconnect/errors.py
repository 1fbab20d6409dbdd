"""All exceptions of `pconnect`, including those of `srp_tools`, as one tree.

.. code-block:: text

    ParallelError
    ├── ConfigurationError (ValueError)
    ├── CredentialError (ValueError)
    ├── AuthenticationError (PermissionError)
    ├── ConnectError (ConnectionError)
    ├── ConnectionLostError (ConnectionError)    a peer is gone; its connection is closed
    │   ├── ServerBusyError                      too many clients are logging in to a server
    │   ├── ServerRefusedError                   a server accepts no new session of this user now; says why
    │   ├── EngineDiedError                      the engine of a node ended unexpectedly; says how
    │   └── JobLostError                         a job ended with its process or machine; says how
    ├── ProtocolError (ValueError)               the peer violated the format; the connection is closed
    ├── UnsupportedValueError (TypeError)        nothing was sent
    ├── MessageTooLargeError (ValueError)        nothing was sent
    ├── InboxFullError (BufferError)             receive the values that have arrived before others can arrive
    ├── CollectiveError (RuntimeError)           a collective call cannot complete; all connections stay open
    ├── DeadlockError (RuntimeError)             nodes wait for each other; says which; all connections stay open
    ├── UnreadableValueError (ValueError)        a value arrived that cannot be rebuilt here; the connection stays open
    │   └── UnavailableTypeError (ImportError)   because a package or a registration is missing here
    ├── ProcessFailedError (RuntimeError)        a process next to an engine could not start; shows its last output
    ├── UnknownServiceError (LookupError)        the server lacks the service that was called; says both versions
    ├── InternalError (RuntimeError)             a bug in this library: an event in an impossible state
    └── RemoteError (RuntimeError)               a command failed; the engine keeps running

An expired time limit raises the built-in `TimeoutError`.
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

#: Fields of built-in classes that are plain data on the client, too. Python does more with others when it shows an
#: error, and would do so in the wrong process: with ``name_from`` of an `ImportError` it imports, with ``filename`` of
#: a `SyntaxError` it reads a file, with ``name`` of a `NameError` it suggests similar names.
BUILTIN_FIELDS: collections.abc.Mapping[type[BaseException], collections.abc.Sequence[str]] = {
    BaseException: ("args",),
    OSError: ("errno", "strerror", "filename", "filename2"),
    ImportError: ("name", "path"),
    UnicodeEncodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeDecodeError: ("encoding", "object", "start", "end", "reason"),
    UnicodeTranslateError: ("object", "start", "end", "reason"),
}


def builtin_fields(kind: type[BaseException]) -> dict[str, typing.Any]:
    """Return the descriptors of those fields in `BUILTIN_FIELDS` that exceptions of a class have.

    Examples
    --------
    >>> list(builtin_fields(FileNotFoundError))
    ['args', 'errno', 'strerror', 'filename', 'filename2']
    """
    bases = [(base, names) for base, names in BUILTIN_FIELDS.items() if issubclass(kind, base)]
    return {name: vars(base)[name] for base, names in bases for name in names}


class ServerRefusedError(ConnectionLostError):
    """A server knows this user but accepts no new session now; the text names the server and the reason.

    The server is drained, closed at this hour, or has reached its session limit. The connection is closed.
    """


class EngineDiedError(ConnectionLostError):
    """The engine of a node ended unexpectedly; the text says how. The other nodes keep running."""


class JobLostError(ConnectionLostError):
    """A job has no result because its process or machine ended; the text says how, and what the job printed last.

    How much of its work it did is unknown. Other jobs continue.
    """


class ProcessFailedError(ParallelError, RuntimeError):
    """A process next to an engine could not start. The text names the node and shows the process's last output."""


class UnknownServiceError(ParallelError, LookupError):
    """The server lacks a service that the client called. The text has the versions of both."""


class ProtocolError(ParallelError, ValueError):
    """The peer sent something that is not a valid message. The connection is closed."""


class UnsupportedValueError(ParallelError, TypeError):
    """A value, or the part of it that the text names, has a type that cannot be sent. Nothing was sent."""


class MessageTooLargeError(ParallelError, ValueError):
    """A message would be larger than the network's ``max_message_bytes``. Nothing was sent."""


class InboxFullError(ParallelError, BufferError):
    """The awaited value cannot arrive: other values of this peer fill the inbox. Receive those first; none is lost."""


class InternalError(ParallelError, RuntimeError):
    """A bug in this library: an event occurred in a state in which it cannot occur. Please report it.

    The text ends with the facts that a report needs: the versions of this package and of Python.
    """

    def __str__(self) -> str:
        ours, pythons = distribution_version(), platform.python_version()
        return f"{super().__str__()} (a bug in pserver {ours} with Python {pythons}: please report it)"


class CollectiveError(ParallelError, RuntimeError):
    """A collective call cannot complete, or its members did not make the same call. All connections stay open.

    No node takes part in further collective calls until the client's next command.
    """


class DeadlockError(ParallelError, RuntimeError):
    """Nodes wait for each other, and none can make progress; the text says which, for whom and in which command.

    It is raised on the client and in the commands that wait. Engines, workspaces and all connections survive.

    Attributes
    ----------
    waits
        One tuple for each node, ``(node, host, command, kind, waits_for)``: its number, its host, the source text of
        its command or ``None``, the call in which it waits, and the numbers of the nodes it waits for.
    """

    waits: collections.abc.Sequence[typing.Any] = ()


class UnreadableValueError(ParallelError, ValueError):
    """A value arrived whole but cannot be rebuilt here. It is lost; the connection and later values are unaffected."""


class UnavailableTypeError(UnreadableValueError, ImportError):
    """A value arrived whose type this node lacks; the text says what to install or register here."""


class RemoteError(ParallelError, RuntimeError):
    """A command failed on a node. The engine, its workspace and all connections survive.

    If the remote exception was a built-in one, or derived from one, then the class of this error is both a
    `RemoteError` and that built-in, so ``except ZeroDivisionError`` works; see `pconnect.commands.remote_errors`.

    Attributes
    ----------
    node, host
        Where it failed: the number of the node in its network, and the host as given to `pconnect`.
    command
        The source text that failed.
    type_name
        Name of the remote exception's type, such as ``"ZeroDivisionError"``.
    message
        The text of the remote exception.
    remote_traceback
        The traceback, as text. The exception object itself is not sent: received data cannot run code.
    args
        The arguments of the remote exception, as in ``KeyError.args[0]``, if they are short plain values; otherwise
        only its text. Further fields of Python's own exceptions, such as ``OSError.errno`` and ``filename``, are copied
        too.
    """

    def __init__(  # noqa: PLR0917 - all facts about a failure
        self, node: int, host: str, command: str, type_name: str, message: str, remote_traceback: str
    ) -> None:
        super().__init__(message)
        self.node = node
        self.host = host
        self.command = command
        self.type_name = type_name
        self.message = message
        self.remote_traceback = remote_traceback
        #: The remote exception's values of fields of built-in classes, by name; set by `restore`.
        self.fields: collections.abc.Mapping[str, object] = {}

    def restore(self, fields: collections.abc.Mapping[str, object]) -> None:
        """Copy the remote exception's values of the fields in `BUILTIN_FIELDS`. Other names are ignored."""
        if isinstance(self, SyntaxError):
            self.msg = str(self)  # Python shows this instead
        for name in builtin_fields(type(self)).keys() & fields.keys():
            with contextlib.suppress(TypeError, OverflowError):  # a malicious engine may send any value
                setattr(self, name, fields[name])
                self.fields = {**self.fields, name: fields[name]}

    def __reduce__(self) -> tuple[object, ...]:
        facts = (self.node, self.host, self.command, self.type_name, self.message, self.remote_traceback)
        return type(self), facts, {**vars(self), **self.fields}

    def __str__(self) -> str:
        return (
            f"{self.type_name} on node {self.node} ({self.host}) in command {shown_source(self.command)!r}\n"
            f"--- traceback of node {self.node} ---\n{self.remote_traceback.rstrip()}"
        )

    def __repr__(self) -> str:
        # The usual form shows only `args`, which are empty for a `KeyboardInterrupt`, for example.
        message = self.message.partition("\n")[0]
        return f"<RemoteError: {self.type_name} on node {self.node} ({self.host}){': ' * bool(message)}{message}>"

    @property
    def is_interrupt(self) -> bool:
        """Whether the command was interrupted."""
        return self.type_name == "KeyboardInterrupt"


def shown_source(source: str) -> str:
    """Return the one-line form of a command for error messages."""
    lines = source.strip().splitlines() or [""]
    return lines[0] if len(lines) == 1 and len(lines[0]) <= 60 else lines[0][:57] + "..."
