"""The files of a login on this machine: whether they are private, sound, and belong together."""

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

from pconnect.connect import pconnect
from pconnect.profiles import check_configuration, config_file
from pserver.daemon.missing_users import no_users
from pserver.doctor.checks import Finding, Level, ok
from srp_tools.credentials import Credentials, load_credentials, load_member
from srp_tools.errors import ConfigurationError, ParallelError
from srp_tools.private_files import check_private, client_file, server_file
from srp_tools.verifier import check_password
from srp_tools.verifier_file import VerifierFile

_DIGITS = 16  # of a fingerprint: 64 bits, for people to compare


def check_files(folder: Path | None = None, auth_file: Path | None = None) -> Iterator[Finding]:
    """Return what is found in the files of a login.

    `folder`: as of ``generate-srp-data``. `auth_file`: the servers' file, if it is elsewhere.
    """
    credentials = None
    client, verifiers = client_file(folder), VerifierFile(auth_file or server_file(folder))
    if client.exists():
        try:
            credentials = load_credentials(client)
            yield ok(f"{_described(client)}, user {credentials.user}")
        except ParallelError as error:
            yield Finding(Level.WRONG, f"the client's file {client} cannot be used", str(error))
    else:
        yield Finding(
            Level.NOTE,
            f"no client's file {client}",
            "if you connect from here: generate-srp-data, or copy that file",
        )
    yield from _check_configuration()
    if not verifiers.path.exists():
        remedy = f"if a server is to run here: {no_users(verifiers.path)}"
        yield Finding(Level.NOTE, f"no servers' file {verifiers.path}", remedy)
        return
    yield from _check_servers_part(verifiers)
    if credentials is not None:
        yield _check_pair(credentials, verifiers)
    if (member := verifiers.path.with_name("member")).exists():
        yield _check_member(member, verifiers)


def _check_configuration() -> Iterator[Finding]:
    """Look at the file in which `pconnect` finds what its caller leaves out."""
    try:
        if check_configuration(pconnect):
            yield ok(_described(config_file()))
    except ParallelError as error:
        yield Finding(Level.WRONG, f"the client's configuration {config_file()} cannot be used", str(error))


def _check_servers_part(verifiers: VerifierFile) -> Iterator[Finding]:
    """Look at the servers' file and its companions; two servers with the same fingerprints know the same users."""
    try:
        for suffix in ("", ".conf", ".seed"):
            path = verifiers.path.with_name(f"{verifiers.path.name}{suffix}")
            if path.exists() or not suffix:
                check_private(path)
                yield ok(f"{_described(path)}{_fingerprint(verifiers, path)}")
        faults, users = verifiers.faults(), verifiers.users()
    except (ParallelError, OSError) as error:
        yield Finding(Level.WRONG, f"the servers' file {verifiers.path} cannot be used", str(error))
        return
    for fault in faults:
        yield Finding(Level.WRONG, fault)
    if not users:
        yield Finding(Level.WRONG, f"{verifiers.path} has no users", no_users(verifiers.path))


def _fingerprint(verifiers: VerifierFile, path: Path) -> str:
    """Return what is the same where two servers answer alike; the digest of a random secret gives nothing away."""
    if path == verifiers.path:
        return f", fingerprint {verifiers.fingerprint()}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    return f", fingerprint {digest}" if path.suffix == ".seed" else ""


def _check_pair(credentials: Credentials, verifiers: VerifierFile) -> Finding:
    """Check that the password of this client is one that a server with this file takes."""
    user = credentials.user
    try:
        check_password(verifiers.find(user), credentials.password)
    except ConfigurationError as error:
        return Finding(Level.WRONG, f"the password of {user} cannot be checked", str(error))
    except ParallelError as error:
        remedy = (
            f"make both anew with generate-srp-data {user}, and copy the servers' part to the servers again"
        )
        return Finding(
            Level.NOTE, f"the client's file and the servers' file do not belong together: {error}", remedy
        )
    return ok(f"the password of {user} belongs to the servers' file")


def _check_member(path: Path, verifiers: VerifierFile) -> Finding:
    """Check that other servers with the same users' file take what this one announces itself with."""
    try:
        credentials = load_member(path)
        check_password(verifiers.find(credentials.user), credentials.password)
    except ParallelError as error:
        remedy = (
            "make both anew with generate-srp-data --member, and copy the servers' part to all servers again"
        )
        return Finding(Level.WRONG, f"{path} cannot be used to join other servers: {error}", remedy)
    return ok(f"{_described(path)}, user {credentials.user}, who belongs to the servers' file")


def _described(path: Path) -> str:
    return f"{path}, mode {stat.S_IMODE(path.stat().st_mode):04o}"
