"""The cause of a refused login, as far as the client can determine it.

A server gives unknown users and wrong passwords the same answer. But it first sends a salt, to anyone, and the client
may have a copy of the server's file, because ``generate-srp-data`` writes both files. If the salts differ, so do the
files. Without a copy on this machine, the user must compare the fingerprint of the salt on the machine that has one.
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

    `salt`: the salt that the server sent for the user. `folder`: see `srp_tools.private_files.server_file`.
    """
    path = server_file(folder)
    try:
        known = VerifierFile(path).find(credentials.user)
    except (ParallelError, OSError):  # most clients do not have this file
        return _unknown(credentials.user, salt)
    if known.salt != salt:
        return (
            f"the server has no verifier of {credentials.user}, or another one than {path}; if that file is for this "
            f"server, copy it there again: run pserver deploy if that started the server, otherwise "
            f"scp -rp {shlex.quote(str(server_folder(folder)))} HOST:.config/pserver/"
        )
    try:
        check_password(known, credentials.password)
    except AuthenticationError:
        return (
            f"the server has the same verifier of {credentials.user} as {path}, so the password is wrong; "
            f"to check a password, run generate-srp-data --verify {credentials.user}"
        )
    return _unknown(credentials.user, salt)


def _unknown(user: str, salt: bytes) -> str:
    there = fingerprint_of([(user, salt)])
    return (
        "the user name or the password is wrong, or the server's users' file is outdated: run generate-srp-data "
        f"--fingerprint on the machine with the current file; if it does not show {there} for {user}, copy the file to "
        "the server again"
    )
