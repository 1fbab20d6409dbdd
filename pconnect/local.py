"""`local_network`: a private server on this machine, for examples, tests, and people without a second machine."""

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pconnect.connect import pconnect
from pconnect.errors import ConfigurationError
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from srp_tools.private_files import server_file
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile


@contextlib.contextmanager
def local_network(
    n: int = 2, *, slots: int | None = None, timeout: float = 30.0, **options: Any
) -> Iterator[ClientNetwork]:
    """Start a private server on the loopback address and connect `n` nodes of it.

    The server has a user with a random password that only this process knows, and ends with the block, or with this
    process, however that ends.

    Parameters
    ----------
    n
        How many engines; the network has ``n + 1`` nodes.
    slots
        How many processes for jobs there may be at once; by default one for each processor.
    timeout
        Limit for starting and connecting, in seconds.
    **options
        Further options of `pconnect`.

    Yields
    ------
    Network
        As from `pconnect`.

    Raises
    ------
    ConfigurationError
        The server could not be started; the text has its reason.

    Examples
    --------
    >>> from pconnect import local_network, precv, reval
    >>> with local_network(2) as net:
    ...     command = reval("psend(sockets.node, sockets[0])", net)
    ...     [precv(connection) for connection in net[1:]]
    [1, 2]
    """
    if not hasattr(n, "__index__") or n < 1:
        raise ConfigurationError(f"local_network({n!r}): at least one engine is needed, and a whole number")
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="pserver-") as folder:
        credentials = Credentials("local", secrets.token_urlsafe(24))
        # The smallest group: 192 random bits cannot be guessed, and only this process knows the server.
        VerifierFile(server_file(Path(folder))).add(make_verifier(credentials, 2048))
        with _private_server(Path(folder), slots, deadline) as cmd_port:
            hosts = [f"127.0.0.1:{cmd_port}"] * n
            with pconnect(
                hosts,
                user=credentials.user,
                password=credentials.password,
                timeout=deadline - time.monotonic(),
                **options,
            ) as network:
                yield network


def start_local_network(
    n: int = 2, *, slots: int | None = None, timeout: float = 30.0, **options: Any
) -> ClientNetwork:
    """Start a private server and connect `n` nodes of it like `local_network`, for a notebook or a prompt.

    The server ends when the network is closed, or with this process.

    Parameters
    ----------
    n, slots, timeout, **options
        As of `local_network`.

    Returns
    -------
    Network
        As from `pconnect`.

    Raises
    ------
    ConfigurationError
        The server could not be started; the text has its reason.

    Examples
    --------
    >>> from pconnect import start_local_network
    >>> net = start_local_network(2)
    >>> net.eval("sockets.node").result()
    [1, 2]
    >>> net.close()
    []
    """
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(local_network(n, slots=slots, timeout=timeout, **options))
        network.mesh.after_close = stack.pop_all().close  # type: ignore[attr-defined]
    return network


@contextlib.contextmanager
def _private_server(folder: Path, slots: int | None, deadline: float) -> Iterator[int]:
    """Run a daemon as a child that ends when we close our end of a socket; give its command port."""
    ours, theirs = socket.socketpair()
    arguments = [
        "start", "--foreground", "--allow-root", "--bind", "127.0.0.1", "--cmd-port", "0", "--data-port", "0",
        "--name", f"local-{os.getpid()}-{secrets.token_hex(4)}",
        "--auth-file", str(server_file(folder)),
        "--log-file", str(folder / "log"),
        "--spool-dir", str(folder),
        "--lifeline", "--parent-fd", str(theirs.fileno()),
    ]  # fmt: skip
    if slots is not None:
        arguments.append(f"--slots={slots}")
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "pserver", *arguments],  # -P: not the user's own pserver.py
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(theirs.fileno(),),
        start_new_session=True,  # Ctrl-C at a terminal is for the client, which passes it on
        env=os.environ | {"XDG_RUNTIME_DIR": str(folder)},
    )
    theirs.close()
    try:
        with ours:
            ours.settimeout(max(0.1, deadline - time.monotonic()))
            yield _read_port(ours, folder / "log")
        child.wait(10)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def _read_port(sock: socket.socket, log: Path) -> int:
    try:
        with sock.makefile("rb") as stream:
            line = stream.readline(2**16)
    except TimeoutError:
        raise ConfigurationError("the private server did not start within the time limit") from None
    if not line:
        told = log.read_text() if log.exists() else "it left no log"
        raise ConfigurationError(f"the private server could not be started: {told}")
    answer = json.loads(line)
    if "error" in answer:
        raise ConfigurationError(f"the private server could not be started: {answer['error']}")
    return int(answer["ready"]["cmd_port"])
