"""`Network.detach` and `Network.jobs`: jobs that outlive their client."""

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
    """The methods for jobs that outlive the client."""

    @property
    def jobs(self) -> Mapping[int, Job]:
        """The jobs of the detached network that this one has recovered, by number and in order; otherwise empty."""
        return mesh_of(self).jobs.recovered

    def detach(self, *, path: str | Path | None = None, timeout: float | None = None) -> str:
        """Leave the unfinished jobs to the servers, and close the network.

        The jobs continue without this client, with the engines that they were submitted to. The servers keep the
        results until a process that knows the user's password recovers them with ``pconnect(recover=token)``. Futures
        that have not ended by then fail with a `JobLostError` that says so.

        Jobs that executors or pools hold back on the client are handed over as well. The servers divide the limit
        (`max_workers`) among the nodes, so these jobs never exceed it. Maps in progress first submit the jobs of all
        remaining items.

        Parameters
        ----------
        path
            A file that also gets the token, with mode 0600, in a folder that others cannot write. It is written before
            the servers continue alone, so the token survives even if this process dies.
        timeout
            Limit for handing over the jobs and their arguments, in seconds.

        Returns
        -------
        str
            The token identifies the jobs and contains no password. From now on the jobs outlive this client; if it dies
            before `detach` returns, its jobs may end with it.

        Raises
        ------
        ConfigurationError
            There is nothing to detach, a server cannot keep it, or a map has not read iterables without a length to
            their end. The network is unchanged.
        ConnectionLostError
            A node was lost before the jobs were handed over. The other nodes, and all jobs, are unchanged.
        TimeoutError
            The limit passed before the jobs were handed over. The network is unchanged, except that maps may have
            submitted more jobs.
        CredentialError
            The file for the token cannot be written. The network is unchanged.
        KeyboardInterrupt
            If it comes before the jobs are handed over, the network is unchanged. If it comes later, the network is
            closed as usual, and a note of the exception has the token.
        """
        mesh = mesh_of(self)
        mesh.check_open()
        if sorted(self.nodes) != mesh.members:  # type: ignore[attr-defined]
            raise ConfigurationError("only a whole network can be detached, not a part of it")
        if mesh.scheduler is None:
            raise ConfigurationError("there is nothing to detach: no job was submitted")
        deadline = deadline_after(timeout)
        _read_inputs(mesh, deadline)
        token, interrupt = _detach(mesh, None if path is None else Path(path), deadline)
        mesh.scheduler.close("the network was detached, and the servers do not have this job")
        mesh.close(_CLOSE_TIMEOUT)
        if interrupt is not None:
            interrupt.add_note(f"The servers already have the jobs. This token recovers them: {token}")
            raise interrupt
        return token


def _read_inputs(mesh: ClientMesh, deadline: float) -> None:
    """Submit all jobs of the maps in progress. Raises `ConfigurationError` if a map's inputs may have no end."""
    unread = [found for reference in list(mesh.jobs.unread_maps) if (found := reference()) is not None]
    for lazy_map in unread:
        if lazy_map.total is None:
            raise ConfigurationError(
                "the network cannot be detached: a map has not read all of its inputs, and their number is unknown "
                f"(jobs submitted: {lazy_map.submitted}): take its other results, delete its iterator, which cancels "
                "its jobs, or give it inputs that have a length, such as lists"
            )
    for lazy_map in unread:
        lazy_map.read_all(deadline)


def _detach(mesh: ClientMesh, path: Path | None, deadline: float) -> tuple[str, KeyboardInterrupt | None]:
    scheduler = mesh.scheduler
    detaching = Detaching(mesh.jobs.throttles)
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
    except KeyboardInterrupt as error:  # too late to undo, and almost finished
        interrupt = error
        left = detaching.left.result(_CLOSE_TIMEOUT)
    token = _token(mesh, detaching.secret, left)
    if path is not None:
        # The first token leads to the same jobs, and to some that have ended.
        with contextlib.suppress(CredentialError):
            write_private(path, token + "\n", others_may_list=True)
    return token, interrupt


def _result(future: "concurrent.futures.Future[Any]", deadline: float) -> Any:
    try:
        return future.result(remaining(deadline))
    except concurrent.futures.TimeoutError:
        if future.done():
            raise
        raise TimeoutError("timed out handing the jobs over to the servers") from None


def _token(mesh: ClientMesh, secret: bytes, jobs: dict[int, dict[int, Job]]) -> str:
    pickled = [n for node in jobs.values() for n, job in node.items() if job.options.allow_pickle]
    numbers = {node: list(found) for node, found in jobs.items()}
    # The place in the list is the node's number. A removed node has no jobs, so any server can fill its place.
    there = mesh.growth.hosts
    any_other = next(iter(there.values()))
    places = [there.get(node, any_other) for node in range(1, len(mesh.connections))]
    hosts = tuple(host.ports_named for host in places)
    return Token(mesh.network_id, secret, hosts, numbers, frozenset(pickled)).pack()
