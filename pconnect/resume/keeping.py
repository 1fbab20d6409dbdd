"""Keeps the file that a later client needs to resume a network."""

import functools
import warnings
from pathlib import Path

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import parse_hosts
from pconnect.link.missing_hosts import Attendance, MissingHostsWarning
from pconnect.resume.resume_file import ResumeFile, remove_file
from pconnect.resume.same_client import return_to_nodes
from pconnect.session.client_mesh import ClientMesh
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork


def check_resume(
    file: Path | None, saved: ResumeFile | None, hosts: object, recover: object, *, use_tls: bool
) -> None:
    """Raise `ConfigurationError` if the options contradict each other or the file."""
    if file is None:
        return
    if recover is not None:
        raise ConfigurationError("resume= and recover= are both given: use only one of them")
    if not use_tls:
        raise ConfigurationError(
            "resume= needs a login, and use_tls=False has none to prove whose sessions they are: leave out one of them"
        )
    if saved is None or hosts is None:
        return
    there = [host for node, host in enumerate(saved.hosts, 1) if node not in saved.removed]
    if [host[1:] for host in there] != [host[1:] for host in parse_hosts(hosts)]:
        names = ", ".join(host.label for host in there)
        raise ConfigurationError(
            f"resume: {file} belongs to a network of other hosts, {names}: give these hosts or another name, or remove "
            "the file if you no longer need that network"
        )


def save(network: ClientNetwork, file: Path) -> None:
    """Write the file for a new network, and warn about servers whose sessions do not wait for the client.

    Raises `CredentialError` if the file cannot be written; the network is then closed.
    """
    mesh = client_mesh(network.mesh)
    try:
        _keep_current(mesh, file)
        _write(mesh, file)
        deaf = dict.fromkeys(s.host for s in mesh.servers.values() if not s.facts.get("orphan_seconds"))
        if deaf:
            text = f"sessions on {', '.join(deaf)} end with this client: start these servers with --orphan-timeout"
            warnings.warn(text, RuntimeWarning, stacklevel=4)
    except BaseException:  # a warning filter may raise
        mesh.close(1.0)
        raise


def attach(network: ClientNetwork, attendance: Attendance, file: Path) -> None:
    """Complete a resumed network, as `save` does with a new one; warn about missing hosts."""
    mesh = client_mesh(network.mesh)
    mesh.attendance = attendance
    _keep_current(mesh, file)
    if attendance.missing:
        warnings.warn(str(attendance), MissingHostsWarning, stacklevel=4)


def _write(mesh: ClientMesh, file: Path) -> None:
    """Write the present nodes to the file. Raises `CredentialError` if that fails."""
    assert mesh.mesh_setup is not None  # noqa: S101 - the network was made by pconnect
    assert mesh.mesh_setup.terms is not None  # noqa: S101 - the network was made by pconnect
    count = len(mesh.connections) - 1
    ResumeFile.of(mesh.mesh_setup.terms, mesh.growth.hosts, count, mesh.growth.ids).write(file)


def _keep_current(mesh: ClientMesh, file: Path) -> None:
    """Update the file when the network changes, and let lost nodes resume their sessions."""
    mesh.growth.come_back = functools.partial(return_to_nodes, mesh)
    mesh.growth.on_change.append(lambda: _write(mesh, file))

    def remove() -> None:
        # Sessions that missed the close wait to be resumed; or another client has taken them over.
        if any(server.life.was_killed is not None for server in mesh.servers.values()):
            remove_file(file, mesh.network_id)

    mesh.after_close.append(remove)
