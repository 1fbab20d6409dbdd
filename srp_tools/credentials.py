"""The client's part of a login: a user name, its password, and the file that keeps them."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import client_file, read_private, write_private

_USER_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")

# Longer than anybody types; a bound so that a wrong file given as a password is noticed.
_MAX_PASSWORD_CHARACTERS = 1024

# The longest user name, a colon, the longest password in UTF-8, and the end of the line.
_MAX_FILE_BYTES = 64 + 1 + 4 * _MAX_PASSWORD_CHARACTERS + 2


@dataclass(frozen=True)
class Credentials:
    """A user name and its password.

    The password is used as it is, in UTF-8, without the preparation of RFC 5054, section 2.3 (SASLprep),
    because GnuTLS and its ``srptool`` do without, too.

    Parameters
    ----------
    user
        1 to 64 of the characters that `check_user_name` allows.
    password
        1 to 1024 printable characters; not part of the ``repr``.

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
        check_user_name(self.user)
        if not self.password:
            raise ConfigurationError("an empty password cannot be used")
        if len(self.password) > _MAX_PASSWORD_CHARACTERS:
            raise ConfigurationError(
                f"a password of {len(self.password)} characters cannot be used: "
                f"at most {_MAX_PASSWORD_CHARACTERS} are allowed"
            )
        if not self.password.isprintable():
            raise ConfigurationError("a password with control or other unprintable characters cannot be used")


def check_user_name(name: str) -> None:
    """Refuse a name that cannot be a user's.

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
    if user is not None and user != name:
        raise CredentialError(
            f"{path} has the password of {name!r}, not of {user!r}; "
            f"the command generate-srp-data {user} would replace it"
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
