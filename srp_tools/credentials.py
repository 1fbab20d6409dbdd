"""The client's part of a login: a user name, its password, and the file that keeps them."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import client_file, read_private, write_private
from srp_tools.rules.precis import prepare_name, prepare_password

_USER_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")

#: Begins the name of each member: a user that servers log in as, to announce themselves to each other, see
#: doc/howto/pool.md. Everything else is refused to it, at every server.
MEMBER_PREFIX = "member+"

_MAX_NAME_BYTES = 255  # TLS has one byte for this length (RFC 5054, section 2.8.1)

# Longer than anybody types; a bound so that a wrong file given as a password is noticed.
_MAX_PASSWORD_CHARACTERS = 1024

# The longest user name, a colon, the longest password in UTF-8, and the end of the line.
_MAX_FILE_BYTES = _MAX_NAME_BYTES + 1 + 4 * _MAX_PASSWORD_CHARACTERS + 2


@dataclass(frozen=True)
class Credentials:
    """A user name and its password.

    Parameters
    ----------
    user
        1 to 255 bytes in UTF-8, printable, without a colon, and not beginning with ``#``. A name for a new user is
        plainer, see `check_user_name`, but other programs make such users, too.
    password
        1 to 1024 printable characters; not part of the ``repr``. Name and password are kept in the one form that
        RFC 8265 gives them, however a keyboard writes them.

    Raises
    ------
    ConfigurationError
        The user name or the password cannot be used.

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
    """Return a password in its one form, or raise `ConfigurationError` if it cannot be used."""
    if not password:
        raise ConfigurationError("an empty password cannot be used")
    _check_length(password)
    password = prepare_password(password)
    _check_length(password)  # some characters become two
    return password


def _check_length(password: str) -> None:
    if len(password) > _MAX_PASSWORD_CHARACTERS:
        raise ConfigurationError(
            f"a password of {len(password)} characters cannot be used: "
            f"at most {_MAX_PASSWORD_CHARACTERS} are allowed"
        )


def login_name(name: str) -> str:
    """Return a user name in its one form, see `prepare_name`.

    Raises `ConfigurationError` if no user can have it.
    """
    shown = repr(name) if len(name) <= _MAX_NAME_BYTES else f"{name[:64]!r}..."
    try:
        prepared = prepare_name(name[: _MAX_NAME_BYTES + 1])
    except ConfigurationError as error:
        raise ConfigurationError(f"the user name {shown} cannot be used: {error}") from None
    if not 0 < len(prepared.encode()) <= _MAX_NAME_BYTES or ":" in prepared or prepared.startswith("#"):
        raise ConfigurationError(
            f"the user name {shown} cannot be used: it has 1 to {_MAX_NAME_BYTES} bytes, all printable, and no colon"
        )
    return prepared


def is_member(name: str) -> bool:
    """Return whether a user is a member: one that servers log in as.

    Examples
    --------
    >>> is_member("member+pool"), is_member("alice")
    (True, False)
    """
    return name.startswith(MEMBER_PREFIX)


def member_name(name: str) -> str:
    """Return the name of the member that a name means, whose prefix may be left out.

    Examples
    --------
    >>> member_name("lab"), member_name("member+lab")
    ('member+lab', 'member+lab')
    """
    return name if is_member(name) else MEMBER_PREFIX + name


def check_user_name(name: str) -> None:
    """Refuse a name that a new user cannot have.

    Allowed are 1 to 64 letters and digits of ASCII and the characters ``. _ - @ +``: nothing that has a
    meaning in the lines of the files, and nothing that looks alike but differs in its bytes.

    Raises `ConfigurationError` if the name has other characters, or is empty or too long.

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
            f"the user name {shown} cannot be used: 1 to 64 letters, digits and . _ - @ + are allowed"
        )


def load_credentials(path: Path | None = None, user: str | None = None) -> Credentials:
    """Read the client's file.

    Parameters
    ----------
    path
        The file; ``None`` stands for `client_file`.
    user
        Whose password is wanted; ``None`` stands for whoever is in the file.

    Raises
    ------
    CredentialError
        The file is missing, open to others, malformed, or another user's. The text says what to do.
    """
    path = client_file() if path is None else path
    text = read_private(path, _MAX_FILE_BYTES)
    # Not splitlines: it takes more for the end of a line than was written as one.
    lines = text.removesuffix("\n").split("\n")
    name, colon, password = lines[0].removesuffix("\r").partition(":")
    if len(lines) != 1 or not colon:
        raise CredentialError(
            f"{path} is not one line user:password; the command generate-srp-data makes it anew"
        )
    try:
        credentials = Credentials(name, password)
    except ConfigurationError as error:
        raise CredentialError(f"{path}, line 1: {error}") from None
    if user is not None and login_name(user) != credentials.user:
        raise CredentialError(
            f"{path} has the password of {name!r}, not of {user!r}; "
            f"the command generate-srp-data {user} would replace it"
        )
    return credentials


def load_member(path: Path) -> Credentials:
    """Read the member's file, with which a server announces itself to others.

    Raises `CredentialError` if it is missing, open to others, malformed, or that of another user. The text says what to
    do.
    """
    if not path.exists():
        raise CredentialError(
            f"there is no file {path} with which a server announces itself; generate-srp-data --member makes it, for "
            "all servers of a pool"
        )
    credentials = load_credentials(path)
    if not is_member(credentials.user):
        raise CredentialError(
            f"{path} has the user {credentials.user!r}, which is not a member; generate-srp-data --member makes one"
        )
    return credentials


def save_credentials(credentials: Credentials, path: Path) -> None:
    """Write the client's file; it has one line, so a user who was there before is replaced.

    Raises
    ------
    CredentialError
        The file cannot be written, or its folder is open to others. The file is as it was before.
    """
    write_private(path, f"{credentials.user}:{credentials.password}\n")
