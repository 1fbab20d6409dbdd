"""Why a login was refused, as far as the client can find out by itself.

A server gives unknown users and wrong passwords the same answer. It names a salt first, to anyone, and the client may
have a copy of the server's file: ``generate-srp-data`` writes both parts. If the salts differ, so do the files. If
there is no copy here, the fingerprint of the salt is to be compared where there is one.
"""

import shlex
from pathlib import Path

from srp_tools.credentials import Credentials
from srp_tools.errors import AuthenticationError, ParallelError
from srp_tools.private_files import server_file, server_folder
from srp_tools.verifier import check_password, fingerprint_of
from srp_tools.verifier_file import VerifierFile


def why_refused(credentials: Credentials, salt: bytes, folder: Path | None = None) -> str:
    """Return the likely cause of a refused login, and what to do.

    `salt`: what the server named for the user. `folder`: as of `srp_tools.private_files.server_file`.
    """
    path = server_file(folder)
    try:
        known = VerifierFile(path).find(credentials.user)
    except (ParallelError, OSError):  # most clients have no such file
        return _unknown(credentials.user, salt)
    if known.salt != salt:
        return (
            f"the server has another verifier of {credentials.user} than {path}, or none; if that file is for this "
            f"server, copy it there again: scp -rp {shlex.quote(str(server_folder(folder)))} HOST:.config/pserver/"
        )
    try:
        check_password(known, credentials.password)
    except AuthenticationError:
        return (
            f"the server has the same verifier of {credentials.user} as {path}, so the password is wrong; "
            f"generate-srp-data --verify {credentials.user} checks one"
        )
    return _unknown(credentials.user, salt)


def _unknown(user: str, salt: bytes) -> str:
    there = fingerprint_of([(user, salt)])
    return (
        "the user name or the password is wrong, or the server's users' file is an old one: generate-srp-data "
        f"--fingerprint, where that file was made, then shows another one than {there} for {user}"
    )
