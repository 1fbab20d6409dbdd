"""What `pconnect` does about the file of a network that can be come back to."""

import warnings
from pathlib import Path

from pconnect.errors import ConfigurationError
from pconnect.link.host_names import parse_hosts
from pconnect.link.missing_hosts import Attendance, MissingHostsWarning
from pconnect.resume.resume_file import ResumeFile, remove_file
from pconnect.session.login import LoginTerms
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
    if [host[1:] for host in saved.hosts] != [host[1:] for host in parse_hosts(hosts)]:
        names = ", ".join(host.label for host in saved.hosts)
        raise ConfigurationError(
            f"resume: {file} is of a network of other hosts: {names}; give these, or another name, or remove that file "
            "if you do not want this network back"
        )


def save(network: ClientNetwork, terms: LoginTerms, attendance: Attendance, file: Path) -> None:
    """Write what a client needs to come back to a new network, and warn of servers that do not wait for it.

    Raises `CredentialError` if the file cannot be written; the network is closed.
    """
    mesh = client_mesh(network.mesh)
    try:
        ResumeFile.of(terms, attendance.hosts).write(file)
        _remove_at_close(network, file)
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
    client_mesh(network.mesh).attendance = attendance
    _remove_at_close(network, file)
    if attendance.missing:
        warnings.warn(str(attendance), MissingHostsWarning, stacklevel=4)


def _remove_at_close(network: ClientNetwork, file: Path) -> None:
    mesh = client_mesh(network.mesh)

    def remove() -> None:
        # Sessions that did not hear of the close wait for whoever comes back; or another client has taken them over.
        if any(server.life.was_killed is not None for server in mesh.servers.values()):
            remove_file(file, mesh.network_id)

    mesh.after_close.append(remove)
