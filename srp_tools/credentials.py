"""The client's side of a login: a user name, its password, and the file that stores them."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import client_file, read_private, write_private
from srp_tools.rules.precis import prepare_name, prepare_password

_USER_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")

#: Prefix of the names of members. A member is a user that servers log in as to announce themselves to each other, see
#: doc/howto/pool.md. Every server refuses all other requests from a member.
MEMBER_PREFIX = "member+"

_MAX_NAME_BYTES = 255  # TLS has one byte for this length (RFC 5054, section 2.8.1)

# Longer than anyone types; the limit catches a wrong file given as a password.
_MAX_PASSWORD_CHARACTERS = 1024

# The longest user name, a colon, the longest password in UTF-8, and a line end.
_MAX_FILE_BYTES = _MAX_NAME_BYTES + 1 + 4 * _MAX_PASSWORD_CHARACTERS + 2


@dataclass(frozen=True)
class Credentials:
    """A user name and its password.

    Parameters
    ----------
    user
        1 to 255 bytes in UTF-8, printable, without a colon, not starting with ``#``. The rules for names of new users
        are stricter, see `check_user_name`, but other programs can create such users as well.
    password
        1 to 1024 printable characters. The ``repr`` does not show it. Name and password are stored in the normal form
        of RFC 8265, which does not depend on how a keyboard encodes them.

    Raises
    ------
    ConfigurationError
        The user name or the password is not allowed.

    Examples
    --------
    >>> Credentials("alice", "correct horse battery staple")
    Credentials(user='alice')
    """

    user: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "user", login_name(self.user))
        object.__setattr__(self, "password", _usable(self.password))


def _usable(password: str) -> str:
    """Return a password in its normal form, or raise `ConfigurationError` if it is not allowed."""
    if not password:
        raise ConfigurationError("an empty password cannot be used")
    _check_length(password)
    password = prepare_password(password)
    _check_length(password)  # the normal form of a character may be two
    return password


def _check_length(password: str) -> None:
    if len(password) > _MAX_PASSWORD_CHARACTERS:
        raise ConfigurationError(
            f"a password of {len(password)} characters cannot be used: "
            f"at most {_MAX_PASSWORD_CHARACTERS} are allowed"
        )


def login_name(name: str) -> str:
    """Return a user name in its normal form, see `prepare_name`.

    Raises `ConfigurationError` if the name is not allowed for any user.
    """
    shown = repr(name) if len(name) <= _MAX_NAME_BYTES else f"{name[:64]!r}..."
    try:
        prepared = prepare_name(name[: _MAX_NAME_BYTES + 1])
    except ConfigurationError as error:
        raise ConfigurationError(f"the user name {shown} cannot be used: {error}") from None
    if not 0 < len(prepared.encode()) <= _MAX_NAME_BYTES or ":" in prepared or prepared.startswith("#"):
        raise ConfigurationError(
            f"the user name {shown} cannot be used: a name has 1 to {_MAX_NAME_BYTES} printable bytes and no colon"
        )
    return prepared


def is_member(name: str) -> bool:
    """Return whether a user is a member: a user that servers log in as.

    Examples
    --------
    >>> is_member("member+pool"), is_member("alice")
    (True, False)
    """
    return name.startswith(MEMBER_PREFIX)


def member_name(name: str) -> str:
    """Return the full name of a member, given its name with or without the prefix.

    Examples
    --------
    >>> member_name("lab"), member_name("member+lab")
    ('member+lab', 'member+lab')
    """
    return name if is_member(name) else MEMBER_PREFIX + name


def check_user_name(name: str) -> None:
    """Check that a new user may have this name.

    A name has 1 to 64 ASCII letters, digits and characters of ``. _ - @ +``. It therefore contains nothing that has a
    meaning in the files, and no characters that look alike but have different bytes.

    Raises `ConfigurationError` if the name contains other characters, is empty or is too long.

    Examples
    --------
    >>> check_user_name("alice@cluster-2")
    >>> check_user_name("al:ice")
    Traceback (most recent call last):
    srp_tools.errors.ConfigurationError: the user name 'al:ice' cannot be used: ...
    """
    if not _USER_NAME.fullmatch(name):
        shown = repr(name) if len(name) <= 64 else f"{name[:64]!r}..."
        raise ConfigurationError(
            f"the user name {shown} cannot be used: use 1 to 64 letters, digits and . _ - @ +"
        )


def load_credentials(path: Path | None = None, user: str | None = None) -> Credentials:
    """Read the client's file.

    Parameters
    ----------
    path
        The file; ``None`` means `client_file`.
    user
        The user whose password is needed; ``None`` accepts any user in the file.

    Raises
    ------
    CredentialError
        The file is missing, accessible to others, malformed, or has another user. The message says what to do.
    """
    path = client_file() if path is None else path
    text = read_private(path, _MAX_FILE_BYTES)
    # Not splitlines, which splits at more characters than the newline that ends a line here.
    lines = text.removesuffix("\n").split("\n")
    name, colon, password = lines[0].removesuffix("\r").partition(":")
    if len(lines) != 1 or not colon:
        raise CredentialError(
            f"{path} is not one line user:password; create it again with the command generate-srp-data"
        )
    try:
        credentials = Credentials(name, password)
    except ConfigurationError as error:
        raise CredentialError(f"{path}, line 1: {error}") from None
    if user is not None and login_name(user) != credentials.user:
        raise CredentialError(
            f"{path} has the password of {name!r}, not of {user!r}; "
            f"to replace it, run generate-srp-data {user}"
        )
    return credentials


def load_member(path: Path) -> Credentials:
    """Read the member's file, which a server uses to announce itself to others.

    Raises `CredentialError` if the file is missing, accessible to others, malformed, or has a user that is not a
    member. The message says what to do.
    """
    if not path.exists():
        raise CredentialError(
            f"there is no file {path}, which a server needs to announce itself; create it for all servers of a pool "
            "with generate-srp-data --member"
        )
    credentials = load_credentials(path)
    if not is_member(credentials.user):
        raise CredentialError(
            f"{path} has the user {credentials.user!r}, which is not a member; create one with "
            "generate-srp-data --member"
        )
    return credentials


def save_credentials(credentials: Credentials, path: Path) -> None:
    """Write the client's file. The file has one line, so this replaces a previous user.

    Raises
    ------
    CredentialError
        The file cannot be written, or its folder is accessible to others. The file is unchanged.
    """
    write_private(path, f"{credentials.user}:{credentials.password}\n")
