"""What `pconnect` does about the file of a network that can be come back to."""

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
    """Raise `ConfigurationError` if what was asked for contradicts itself, or what the file says."""
    if file is None:
        return
    if recover is not None:
        raise ConfigurationError("resume and recover: give only one of them")
    if not use_tls:
        raise ConfigurationError(
            "resume and use_tls=False: without a login, nobody can prove whose sessions they are; leave out one"
        )
    if saved is None or hosts is None:
        return
    there = [host for node, host in enumerate(saved.hosts, 1) if node not in saved.removed]
    if [host[1:] for host in there] != [host[1:] for host in parse_hosts(hosts)]:
        names = ", ".join(host.label for host in there)
        raise ConfigurationError(
            f"resume: {file} is of a network of other hosts: {names}; give these, or another name, or remove that file "
            "if you do not want this network back"
        )


def save(network: ClientNetwork, file: Path) -> None:
    """Write what a client needs to come back to a new network, and warn of servers that do not wait for it.

    Raises `CredentialError` if the file cannot be written; the network is closed.
    """
    mesh = client_mesh(network.mesh)
    try:
        _look_after(mesh, file)
        _write(mesh, file)
        deaf = dict.fromkeys(s.host for s in mesh.servers.values() if not s.facts.get("orphan_seconds"))
        if deaf:
            text = (
                f"sessions at {', '.join(deaf)} end with this client: start the servers with --orphan-timeout"
            )
            warnings.warn(text, RuntimeWarning, stacklevel=4)
    except BaseException:  # a user may have warnings raised
        mesh.close(1.0)
        raise


def attach(network: ClientNetwork, attendance: Attendance, file: Path) -> None:
    """Give a network that has come back what a new one has; warn of hosts that are missing."""
    mesh = client_mesh(network.mesh)
    mesh.attendance = attendance
    _look_after(mesh, file)
    if attendance.missing:
        warnings.warn(str(attendance), MissingHostsWarning, stacklevel=4)


def _write(mesh: ClientMesh, file: Path) -> None:
    """Write who the nodes are now. Raises `CredentialError` if that is not possible."""
    assert mesh.mesh_setup is not None  # noqa: S101 - pconnect has made it
    assert mesh.mesh_setup.terms is not None  # noqa: S101 - the same
    count = len(mesh.connections) - 1
    ResumeFile.of(mesh.mesh_setup.terms, mesh.growth.hosts, count, mesh.growth.ids).write(file)


def _look_after(mesh: ClientMesh, file: Path) -> None:
    """Have the file follow the network, and have nodes that are lost come back to their sessions."""
    mesh.growth.come_back = functools.partial(return_to_nodes, mesh)
    mesh.growth.on_change.append(lambda: _write(mesh, file))

    def remove() -> None:
        # Sessions that did not hear of the close wait for whoever comes back; or another client has taken them over.
        if any(server.life.was_killed is not None for server in mesh.servers.values()):
            remove_file(file, mesh.network_id)

    mesh.after_close.append(remove)
