"""`local_network`: a private server on this machine, for examples, tests, and users without a second machine."""

import atexit
import contextlib
import json
import operator
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pconnect.connect import pconnect
from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.link.host_names import Host, parse_hosts
from pconnect.link.local_link import own_place
from pconnect.loop.forked_copies import leave_in_copies
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import client_mesh
from pconnect.toml_file import fault
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from srp_tools.private_files import server_file
from srp_tools.steps import describe_seconds
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile

_LABEL = "local"  # of its nodes, in messages
_PORTS = ("--bind=127.0.0.1", "--cmd-port=0", "--data-port=0")
_EXIT_TIMEOUT = 5.0  # seconds; a program that exits should not wait for long


@contextlib.contextmanager
def local_network(
    n: int = 2, *, slots: int | None = None, timeout: float = 30.0, **options: Any
) -> Iterator[ClientNetwork]:
    """Start a private server and connect `n` of its engines.

    The server has one user with a random password that only this process knows. It ends with the block, or with this
    process, however that ends. It listens on Unix sockets in a private folder, and on no port: no other account can
    connect. With ``local_links=False`` it listens on loopback ports instead.

    Parameters
    ----------
    n
        Number of engines; the network has ``n + 1`` nodes.
    slots
        Maximum number of worker processes for jobs; by default one for each processor.
    timeout
        Limit for starting and connecting, in seconds.
    **options
        Other options of `pconnect`.

    Yields
    ------
    Network
        As from `pconnect`.

    Raises
    ------
    ConfigurationError
        The server could not be started; the text has the reason. Servers run on Linux only.

    Examples
    --------
    >>> from pconnect import local_network, precv, reval
    >>> with local_network(2) as net:
    ...     command = reval("psend(sockets.node, sockets[0])", net)
    ...     [precv(connection) for connection in net[1:]]
    [1, 2]
    """
    deadline = _deadline(timeout)
    with (
        _private_server(n, slots, deadline, options) as server,
        _connect(n, server, deadline, options) as network,
    ):
        yield network


def start_local_network(
    n: int = 2, *, slots: int | None = None, timeout: float = 30.0, **options: Any
) -> ClientNetwork:
    """Start a private server and connect `n` of its engines like `local_network`, for a notebook or a prompt.

    The server ends when the network is closed, or with this process: a program may leave the network open.

    Parameters
    ----------
    n, slots, timeout, **options
        See `local_network`.

    Returns
    -------
    Network
        As from `pconnect`.

    Raises
    ------
    ConfigurationError
        The server could not be started; the text has the reason.

    Examples
    --------
    >>> from pconnect import start_local_network
    >>> net = start_local_network(2)
    >>> net.eval("sockets.node").result()
    [1, 2]
    >>> net.close()
    []
    """
    deadline = _deadline(timeout)
    with contextlib.ExitStack() as stack:
        network = _connect(
            n, stack.enter_context(_private_server(n, slots, deadline, options)), deadline, options
        )
        mesh = client_mesh(network.mesh)
        # The server also ends when Python frees a network that is still open.
        close_server = weakref.finalize(mesh, stack.pop_all().close)
        mesh.after_close.append(close_server)
        close_server.atexit = False  # `_close_left_open` does that
    atexit.register(_close_left_open, weakref.ref(mesh))
    return network


def _deadline(timeout: float) -> float:
    if problem := fault("timeout", timeout, float):
        raise ConfigurationError(f"local_network: {problem}")
    return time.monotonic() + timeout


def _close_left_open(reference: weakref.ref[ClientMesh]) -> None:
    """Close a network before Python destroys its objects in arbitrary order."""
    mesh = reference()
    if mesh is not None and not mesh.closed:
        mesh.close(_EXIT_TIMEOUT)


class _Server(NamedTuple):
    """How to reach a private server."""

    credentials: Credentials
    host: Host


def _connect(n: int, server: _Server, deadline: float, options: Mapping[str, Any]) -> ClientNetwork:
    network = pconnect(
        [server.host] * n,
        profile="",
        user=server.credentials.user,
        password=server.credentials.password,
        timeout=deadline - time.monotonic(),
        **options,
    )
    client_mesh(network.mesh).growth.is_private = True
    return network


@contextlib.contextmanager
def _private_server(
    n: int, slots: int | None, deadline: float, options: Mapping[str, Any]
) -> Iterator[_Server]:
    """Run a daemon for `n` engines that only this process can log in to."""
    if sys.platform != "linux":
        raise ConfigurationError(
            "local_network: servers run on Linux only; connect to one with pconnect(hosts)"
        )
    if not hasattr(n, "__index__") or n < 1:
        raise ConfigurationError(f"local_network({n!r}): n must be an integer, and at least 1")
    if slots is not None and not hasattr(slots, "__index__"):
        raise ConfigurationError(f"local_network: slots={slots!r}: it must be a whole number")
    with _Folder() as folder:
        credentials = Credentials("local", secrets.token_urlsafe(24))
        # The smallest group suffices: 192 random bits cannot be guessed, and only this process knows the server.
        VerifierFile(server_file(folder)).add(make_verifier(credentials, 2048))
        # Use ports without local links, and where the kernel does not identify this machine.
        places = ["--no-tcp"] if options.get("local_links", True) and own_place() else _PORTS
        with _daemon(folder, places, slots, deadline) as host:
            yield _Server(credentials, host)


class _Folder:
    """A temporary folder that is removed after the block, or with this process; a forked copy removes nothing."""

    def __enter__(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="pserver-"))
        self._remove = weakref.finalize(self, _remove, folder, os.getpid())
        return folder

    def __exit__(self, *_: object) -> None:
        self._remove()


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _daemon(folder: Path, places: Sequence[str], slots: int | None, deadline: float) -> Iterator[Host]:
    """Run a daemon as a child that ends when this process closes its end of a socket; yield the daemon's address.

    `places`: the options that set where it listens.
    """
    owner = os.getpid()
    ours, theirs = _socketpair()
    lifeline = _Lifeline(ours)
    leave_in_copies(lifeline)
    arguments = [
        "start", "--foreground", "--allow-root", *places,
        "--name", f"local-{os.getpid()}-{secrets.token_hex(4)}",
        "--auth-file", str(server_file(folder)),
        "--log-file", str(folder / "log"),
        "--spool-dir", str(folder),
        "--lifeline", "--parent-fd", str(theirs.fileno()),
    ]  # fmt: skip
    if slots is not None:
        arguments.append(f"--slots={operator.index(slots)}")
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "pserver", *arguments],  # -P: do not import a pserver.py of the user
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,  # Ctrl-C at a terminal is for the client, which passes it on
        env=os.environ | dict.fromkeys(("XDG_RUNTIME_DIR", "PSERVER_RUNTIME_DIR"), str(folder)),
    )
    theirs.close()
    try:
        with ours:
            yield _read_host(ours, folder / "log", max(0.1, deadline - time.monotonic()))
        if os.getpid() == owner:  # else the server belongs to the parent process
            child.wait(10)
    finally:
        if os.getpid() == owner and child.poll() is None:
            child.kill()
            child.wait()


class _Lifeline:
    """The socket that ends the server when it is closed; a forked copy of this process does not keep it open."""

    def __init__(self, ours: socket.socket) -> None:
        self._ours = ours

    def abandon(self, _: ConnectionLostError) -> None:
        """Close it in a copy; see `pconnect.loop.forked_copies`."""
        self._ours.close()


def _socketpair() -> tuple[socket.socket, socket.socket]:
    """Return a socket pair whose descriptors are not 0 to 2: a child has other files under these numbers."""
    with contextlib.ExitStack() as held:
        while True:
            ours, theirs = socket.socketpair()
            if min(ours.fileno(), theirs.fileno()) > 2:
                return ours, theirs
            held.enter_context(ours)
            held.enter_context(theirs)


def _read_host(sock: socket.socket, log: Path, timeout: float) -> Host:
    sock.settimeout(timeout)
    try:
        with sock.makefile("rb") as stream:
            line = stream.readline(2**16)
    except TimeoutError:
        raise ConfigurationError(
            f"timed out after {describe_seconds(timeout)} waiting for the private server to start"
        ) from None
    if not line:
        reason = log.read_text() if log.exists() else "it left no log"
        raise ConfigurationError(f"the private server could not be started: {reason}")
    answer = json.loads(line)
    if "error" in answer:
        raise ConfigurationError(f"the private server could not be started: {answer['error']}")
    if path := answer["ready"]["socket"]:
        return Host(_LABEL, path, 0)
    (host,) = parse_hosts(("127.0.0.1", answer["ready"]["cmd_port"]))
    return host
