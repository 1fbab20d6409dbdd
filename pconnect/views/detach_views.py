"""The verbs of a network for jobs that outlive their client."""

import concurrent.futures
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pconnect.detach.hand_over import Detaching
from pconnect.detach.token import Token
from pconnect.errors import ConfigurationError, CredentialError
from pconnect.jobs.job import Job
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import mesh_of
from srp_tools.private_files import write_private
from srp_tools.steps import deadline_after, remaining

_CLOSE_TIMEOUT = 10.0


class DetachView:
    """What a network has on the client for jobs that outlive it."""

    @property
    def jobs(self) -> Mapping[int, Job]:
        """The jobs of the detached network that this one has recovered, by number in order; else none."""
        return mesh_of(self).jobs.recovered

    def detach(self, *, path: str | Path | None = None, timeout: float | None = None) -> str:
        """Leave the jobs that have not ended to the servers, and close the network.

        They go on without this client, with the engines that they were submitted to. The servers keep the results until
        they are recovered with ``pconnect(recover=token)``, by any process that knows the user's password. Futures
        that have not ended by now fail with a `JobLostError` that says so.

        Parameters
        ----------
        path
            A file for the token, too, of mode 0600, in a folder that others cannot write. It is written before the
            servers go on alone, so that the token survives whatever happens to this process.
        timeout
            Limit in seconds for handing over the jobs, with their arguments.

        Returns
        -------
        str
            The token: it has what is needed to find the jobs, and no password. The jobs outlive this client from here
            on; one that dies before, takes them with it.

        Raises
        ------
        ConfigurationError
            There is nothing to detach, or a server cannot keep it. The network is as it was.
        ConnectionLostError
            A node was lost before the jobs were handed over. The others, and all jobs, are as they were.
        TimeoutError
            The limit passed before the jobs were handed over. The network is as it was.
        CredentialError
            The file for the token cannot be written. The network is as it was.
        KeyboardInterrupt
            Before the jobs were handed over, the network is as it was. After that the network is closed, as without it,
            and a note of the exception has the token.
        """
        mesh = mesh_of(self)
        mesh.check_open()
        if sorted(self.nodes) != mesh.members:  # type: ignore[attr-defined]
            raise ConfigurationError("only a whole network can be detached, not a part of it")
        if mesh.scheduler is None:
            raise ConfigurationError("there is nothing to detach: no job was submitted")
        token, interrupt = _detach(mesh, None if path is None else Path(path), deadline_after(timeout))
        mesh.scheduler.close("the network was detached; recover it with the token")
        mesh.close(_CLOSE_TIMEOUT)
        if interrupt is not None:
            interrupt.add_note(f"The jobs are the servers' already. This token recovers them: {token}")
            raise interrupt
        return token


def _detach(mesh: ClientMesh, path: Path | None, deadline: float) -> tuple[str, KeyboardInterrupt | None]:
    scheduler = mesh.scheduler
    detaching = Detaching()
    scheduler.extend(detaching)
    try:
        uploaded = _result(detaching.uploaded, deadline)
        token = _token(mesh, detaching.secret, uploaded)
        if path is not None:
            write_private(path, token + "\n", others_may_list=True)
    except BaseException:
        scheduler.call(detaching.undo)
        raise
    scheduler.call(detaching.go_on)
    interrupt = None
    try:
        left = detaching.left.result()
    except KeyboardInterrupt as error:  # too late, and it takes but a moment
        interrupt = error
        left = detaching.left.result(_CLOSE_TIMEOUT)
    token = _token(mesh, detaching.secret, left)
    if path is not None:
        # The first one leads to the same jobs, and some that have ended.
        with contextlib.suppress(CredentialError):
            write_private(path, token + "\n", others_may_list=True)
    return token, interrupt


def _result(future: "concurrent.futures.Future[Any]", deadline: float) -> Any:
    try:
        return future.result(remaining(deadline))
    except concurrent.futures.TimeoutError:
        if future.done():
            raise
        raise TimeoutError("the jobs could not be handed over to the servers in time") from None


def _token(mesh: ClientMesh, secret: bytes, jobs: dict[int, dict[int, Job]]) -> str:
    pickled = [n for node in jobs.values() for n, job in node.items() if job.options.allow_pickle]
    numbers = {node: list(found) for node, found in jobs.items()}
    # A place in the list is a number. Where a node was removed, any server may stand: no job is kept there.
    there = mesh.growth.hosts
    any_other = next(iter(there.values()))
    places = [there.get(node, any_other) for node in range(1, len(mesh.connections))]
    hosts = tuple(host.ports_named for host in places)
    return Token(mesh.network_id, secret, hosts, numbers, frozenset(pickled)).pack()
