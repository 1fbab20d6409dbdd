"""Create a login: the client's file with the password, and the servers' files with the verifier."""

import getpass
import os
import secrets
from pathlib import Path
from typing import NamedTuple

from srp_tools.credentials import MEMBER_PREFIX, Credentials, is_member, member_name, save_credentials
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import client_file as path_of_client
from srp_tools.private_files import member_file, server_file
from srp_tools.rules.weak_passwords import GOOD_CHARACTERS, LEAST_CHARACTERS, weakness
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile

# 192 bits: 128 are enough, and 24 bytes make 32 characters without padding.
_RANDOM_PASSWORD_BYTES = 24

#: The member's name if the user does not choose one.
DEFAULT_MEMBER = "member+pool"


class SrpData(NamedTuple):
    """The user and the files that `generate_srp_data` created."""

    user: str  #: the name to log in with
    #: The file with the password, for the client or the member; ``None`` if it was not written.
    client: Path | None
    server: Path  #: the servers' file, with the verifiers of all users; copy its whole folder to each server


def generate_srp_data(
    user: str | None = None,
    password: str | None = None,
    *,
    bits: int = DEFAULT_BITS,
    folder: str | os.PathLike[str] | None = None,
    client_file: bool = True,
    allow_weak: bool = False,
    member: bool = False,
) -> SrpData:
    """Create a login: a password for the client and a verifier for the servers.

    This is the command ``generate-srp-data`` without its questions and output. An existing user is replaced; other
    users are unchanged.

    Parameters
    ----------
    user
        1 to 64 letters, digits and ``. _ - @ +``; ``None`` uses the name of this account.
    password
        8 to 1024 printable characters; ``None`` makes a random password of 192 bits, which you need not know: it is in
        the client's file.
    bits
        Size of the group: 2048, 3072, 4096 or 8192. A larger one makes each login slower.
    folder
        Write ``folder/client`` and ``folder/server``; ``None`` uses the user's configuration folder
        (``~/.config/pserver`` on Linux), where `pconnect` and ``pserver start`` look for them.
    client_file
        Whether to store the password in the client's file, replacing the user who was there before.
    allow_weak
        Accept a password of fewer than 8 characters; an attacker can try all of these within hours.
    member
        Create the user that servers log in as to announce themselves to each other. The prefix ``member+`` is put
        before `user`, and the user can do nothing else. Its password is stored next to the verifiers.

    Returns
    -------
    SrpData
        The name of the user, and the paths of both files: ``user``, ``client``, ``server``.

    Raises
    ------
    ConfigurationError
        The name, the password or the group size is not allowed, this account has no name, or a random password would
        not be stored anywhere. Nothing was written.
    CredentialError
        A folder is accessible to others, or a file cannot be written; the message says what to do. Nothing was changed,
        or the message says that the verifier is new and the client's file is not.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> data = generate_srp_data("alice", folder=folder)
    >>> data.user, data.server.name
    ('alice', 'tpasswd')
    >>> from srp_tools import load_credentials
    >>> load_credentials(data.client)
    Credentials(user='alice')
    """
    if password is None and not client_file:
        raise ConfigurationError(
            "a random password needs the client's file, because it would not be stored anywhere else; give a password"
        )
    if bits not in GROUPS:
        raise ConfigurationError(
            f"a group of {bits} bits cannot be used: use one of {', '.join(map(str, GROUPS))}"
        )
    made = secrets.token_urlsafe(_RANDOM_PASSWORD_BYTES) if password is None else password
    name = user if user is not None else DEFAULT_MEMBER if member else account_name()
    credentials = Credentials(member_name(name) if member else name, made)
    if len(credentials.password) < LEAST_CHARACTERS and not allow_weak:
        raise ConfigurationError(
            f"the password cannot be used: {weakness(credentials.password, credentials.user)}, and anyone who gets "
            f"the servers' file can find it within hours; use at least {GOOD_CHARACTERS} characters, or allow it with "
            "--allow-weak (allow_weak=True)"
        )
    if is_member(credentials.user) and not member:
        raise ConfigurationError(
            f"the user name {credentials.user!r} cannot be used: the prefix {MEMBER_PREFIX} is for members; to create "
            "a member, use --member (member=True)"
        )
    base = None if folder is None else Path(folder)
    path = member_file(base) if member else path_of_client(base)
    verifiers, client = VerifierFile(server_file(base)), path if client_file else None
    verifiers.add(make_verifier(credentials, bits))
    if client is not None:
        try:
            save_credentials(credentials, client)
        except CredentialError as error:
            raise CredentialError(
                f"the servers' file is written, but not the client's: {error}; then create the user again"
            ) from error
    return SrpData(credentials.user, client, verifiers.path)


def account_name() -> str:
    """Return the name of this account; raise `ConfigurationError` if it has none."""
    try:
        return getpass.getuser()
    # KeyError before Python 3.13: an account without a name, as some containers have.
    except (KeyError, OSError):
        raise ConfigurationError("this account has no name; give a user name") from None
