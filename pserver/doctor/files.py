"""The login files on this machine: whether they are private, valid and consistent with each other."""

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

_DIGITS = 16  # of a fingerprint: 64 bits are enough for people to compare


def check_files(folder: Path | None = None, auth_file: Path | None = None) -> Iterator[Finding]:
    """Return the findings for the login files.

    `folder`: the folder given to ``generate-srp-data``. `auth_file`: the users' file, if it is elsewhere.
    """
    credentials = None
    client, verifiers = client_file(folder), VerifierFile(auth_file or server_file(folder))
    if client.exists():
        try:
            credentials = load_credentials(client)
            yield ok(f"{_described(client)}, user {credentials.user}")
        except ParallelError as error:
            yield Finding(Level.WRONG, f"the client's file {client} is invalid", str(error))
    else:
        yield Finding(
            Level.NOTE,
            f"no client's file {client}",
            "to connect from this machine, run generate-srp-data, or copy that file from another machine",
        )
    yield from _check_configuration()
    if not verifiers.path.exists():
        remedy = f"to run a server here: {no_users(verifiers.path)}"
        yield Finding(Level.NOTE, f"no users' file {verifiers.path}", remedy)
        return
    yield from _check_servers_part(verifiers)
    if credentials is not None:
        yield _check_pair(credentials, verifiers)
    if (member := verifiers.path.with_name("member")).exists():
        yield _check_member(member, verifiers)


def _check_configuration() -> Iterator[Finding]:
    """Check the file with the defaults of `pconnect`."""
    try:
        if check_configuration(pconnect):
            yield ok(_described(config_file()))
    except ParallelError as error:
        yield Finding(Level.WRONG, f"the client's configuration {config_file()} is invalid", str(error))


def _check_servers_part(verifiers: VerifierFile) -> Iterator[Finding]:
    """Check the users' file and its companions; two servers with equal fingerprints have the same users."""
    try:
        for suffix in ("", ".conf", ".seed"):
            path = verifiers.path.with_name(f"{verifiers.path.name}{suffix}")
            if path.exists() or not suffix:
                check_private(path)
                yield ok(f"{_described(path)}{_fingerprint(verifiers, path)}")
        faults, users = verifiers.faults(), verifiers.users()
    except (ParallelError, OSError) as error:
        yield Finding(Level.WRONG, f"the users' file {verifiers.path} is invalid", str(error))
        return
    for fault in faults:
        yield Finding(Level.WRONG, fault)
    if not users:
        yield Finding(Level.WRONG, f"{verifiers.path} has no users", no_users(verifiers.path))


def _fingerprint(verifiers: VerifierFile, path: Path) -> str:
    """Return a fingerprint that is equal on servers with equal files; the digest of a random secret reveals nothing."""
    if path == verifiers.path:
        return f", fingerprint {verifiers.fingerprint()}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    return f", fingerprint {digest}" if path.suffix == ".seed" else ""


def _check_pair(credentials: Credentials, verifiers: VerifierFile) -> Finding:
    """Check that a server with this users' file accepts this client's password."""
    user = credentials.user
    try:
        check_password(verifiers.find(user), credentials.password)
    except ConfigurationError as error:
        return Finding(Level.WRONG, f"cannot check the password of {user}", str(error))
    except ParallelError as error:
        remedy = (
            f"create both again with generate-srp-data {user}, and copy the login files to the servers again"
        )
        return Finding(Level.NOTE, f"the client's file and the users' file do not match: {error}", remedy)
    return ok(f"the password of {user} matches the users' file")


def _check_member(path: Path, verifiers: VerifierFile) -> Finding:
    """Check that other servers with the same users' file accept this server's announcements."""
    try:
        credentials = load_member(path)
        check_password(verifiers.find(credentials.user), credentials.password)
    except ParallelError as error:
        remedy = (
            "create both again with generate-srp-data --member, and copy the login files to all servers again"
        )
        return Finding(Level.WRONG, f"a server cannot use {path} to join other servers: {error}", remedy)
    return ok(f"{_described(path)}, user {credentials.user}, matches the users' file")


def _described(path: Path) -> str:
    return f"{path}, mode {stat.S_IMODE(path.stat().st_mode):04o}"
