"""The client's part of a login: a user name, its password, and the file that keeps them."""

import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import client_file, read_private, write_private

_USER_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,64}")

_MAX_NAME_BYTES = 255  # TLS has one byte for this length (RFC 5054, section 2.8.1)

# Longer than anybody types; a bound so that a wrong file given as a password is noticed.
_MAX_PASSWORD_CHARACTERS = 1024

# As in NIST SP 800-63B, section 5.1.1. Anyone who gets hold of a verifier tries all shorter ones in hours.
_MIN_GOOD_CHARACTERS = 8
_MIN_GOOD_VARIETY = 4  # different ones; else it is "aaaaaaaa" or "12121212"

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
        1 to 1024 printable characters; not part of the ``repr``. It is kept as `composed` returns it.

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
        object.__setattr__(self, "user", _login_name(self.user))
        object.__setattr__(self, "password", _usable(self.password))


def composed(password: str) -> str:
    """Return the one form of a password that keyboards and systems write differently.

    These are the rules of OpaqueString (RFC 8265, section 4.2): every kind of space is the one of ASCII, and letters
    with accents are composed (NFC). Most keyboards under Linux and Windows write them so already.

    Examples
    --------
    >>> composed("cafe\N{COMBINING ACUTE ACCENT}") == composed("caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    True
    """
    spaces = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    return unicodedata.normalize("NFC", spaces)


def _usable(password: str) -> str:
    """Return a password in its one form, or raise `ConfigurationError` if it cannot be used."""
    if not password:
        raise ConfigurationError("an empty password cannot be used")
    _check_length(password)
    password = composed(password)
    _check_length(password)  # some characters become two
    if not password.isprintable():
        raise ConfigurationError("a password with control or other unprintable characters cannot be used")
    return password


def _check_length(password: str) -> None:
    if len(password) > _MAX_PASSWORD_CHARACTERS:
        raise ConfigurationError(
            f"a password of {len(password)} characters cannot be used: "
            f"at most {_MAX_PASSWORD_CHARACTERS} are allowed"
        )


def _login_name(name: str) -> str:
    """Return a user name in its one form (NFC), or raise `ConfigurationError` if no user can have it."""
    fits = 0 < len(name.encode(errors="replace")) <= _MAX_NAME_BYTES
    if not fits or not name.isprintable() or ":" in name or name.startswith("#"):
        shown = repr(name) if len(name) <= _MAX_NAME_BYTES else f"{name[:64]!r}..."
        raise ConfigurationError(
            f"the user name {shown} cannot be used: it has 1 to {_MAX_NAME_BYTES} bytes, all printable, and no colon"
        )
    return unicodedata.normalize("NFC", name)


def weakness_of(credentials: Credentials) -> str | None:
    """Return why a password is easily guessed, as far as can be seen from itself, or ``None``.

    Examples
    --------
    >>> weakness_of(Credentials("alice", "abc"))
    'the password has only 3 characters'
    >>> weakness_of(Credentials("alice", "alice-1234"))
    'the password is little more than the user name'
    """
    password = credentials.password
    if len(password) < _MIN_GOOD_CHARACTERS:
        return f"the password has only {len(password)} character{'s' if len(password) > 1 else ''}"
    if len(set(password)) < _MIN_GOOD_VARIETY:
        return f"the password has only {len(set(password))} different characters"
    if len(password.casefold().replace(credentials.user.casefold(), "")) < _MIN_GOOD_CHARACTERS:
        return "the password is little more than the user name"
    return None


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
    if user is not None and unicodedata.normalize("NFC", user) != credentials.user:
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
