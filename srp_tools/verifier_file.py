"""The verifiers of a server, in GnuTLS's file format, so that ``srptool`` makes and checks the same lines.

A server must not reveal who has an account. For an unknown user it continues with a *simulated* verifier (RFC 5054,
section 2.5.1.3), so the login fails only where it would with a wrong password. The simulated verifier must be the same
at every attempt, and on every server with the same file: it is derived from the name and a secret seed, which lies in a
third file beside.
"""

import hashlib
import hmac
import re
import secrets
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from srp_tools.credentials import check_user_name
from srp_tools.errors import CredentialError
from srp_tools.private_files import exclusive_access, read_private, write_private
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS, Group, find_group
from srp_tools.tpasswd import (
    GroupLine,
    UserLine,
    decode,
    decode_number,
    encode,
    format_group,
    format_user,
    parse_groups,
    parse_users,
)
from srp_tools.verifier import _MAX_SALT_BYTES, _SALT_BYTES, Verifier

_SEED_BYTES = 32


# Some 30,000 users. Whoever can write the file could otherwise fill the memory of each login.
_MAX_FILE_BYTES = 16 * 2**20


# The numbers that `srptool --create-conf` gives these groups: its default index, 3, means the same here.
_INDEXES = {2048: 3, 3072: 4, 4096: 5, 8192: 7}


class VerifierFile:
    """The verifiers of a server, in a file that ``srptool`` understands.

    The file is read anew by every method, so a change is in force with the next login. Each method demands
    that the file, its companions and their folder are closed to others. The methods that change it keep the
    lines of other users as they are, replace the files at once (a reader sees the old content or the new) and
    wait for each other, also between processes. After an error nothing is changed.

    Parameters
    ----------
    path
        The ``tpasswd``. Beside it lie ``tpasswd.conf`` with the groups and, if the file was made by us,
        ``tpasswd.seed`` with the secret behind simulated verifiers. Without it each object takes a seed of
        its own; then an unknown user can be told by the salt, which changes when the server starts anew.

    Raises
    ------
    CredentialError
        By every method: a file is missing, open to others, larger than 16 MiB or malformed; the text has the
        number of the line and what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._conf_path = path.with_name(f"{path.name}.conf")
        self._seed_path = path.with_name(f"{path.name}.seed")
        self._own_seed = secrets.token_bytes(_SEED_BYTES)

    def __contains__(self, user: str) -> bool:
        return any(line.user == user for line in self._read_users())

    def users(self) -> list[str]:
        """Return the names of all users, in the order of the file.

        Raises `CredentialError` as described at the class; also if a user has two lines.
        """
        users = [line.user for line in self._read_users()]
        for user, count in Counter(users).items():
            if count > 1:
                raise self._repeated(user)
        return users

    def find(self, user: str) -> Verifier:
        """Return the verifier of a user.

        Raises `CredentialError` if there is no such user, or there are two lines for it, or its group is too small.
        Other users are not affected.
        """
        # Users before groups: a group is written before the first user in it.
        lines = self._read_users()
        return self._select(user, lines, self._read_groups())

    def lookup(self, user: str) -> Verifier:
        """Return the verifier of a user; for an unknown one a simulated verifier.

        Both answers take the same time, but for some microseconds.

        `user`: any text, as a peer sent it. Raises `CredentialError` if the user is known, but has two lines or a group
        that is too small.
        """
        lines = self._read_users()
        groups = self._read_groups()
        simulated = self._simulate(user, lines, groups)
        if any(line.user == user for line in lines):
            return self._select(user, lines, groups)
        return simulated

    def add(self, verifier: Verifier) -> None:
        """Write the verifier of a new user, or replace that of a known one, which mends a repeated user, too.

        Files and folder that are missing are made.

        Raises `ConfigurationError` if the user name cannot be used. Raises `CredentialError` as described at the class;
        also for a salt that the format cannot keep.
        """
        check_user_name(verifier.user)
        if not 0 < len(verifier.salt) <= _MAX_SALT_BYTES or decode(encode(verifier.salt)) != verifier.salt:
            raise CredentialError(f"the salt of {verifier.user!r} cannot be written in this format")
        with exclusive_access(self.path):
            text = self._read(self.path) if self.path.exists() else ""
            users = [line.user for line in parse_users(text, str(self.path))]
            # The group and the seed come first: no reader may meet a user whose group is not there yet.
            index = self._index_of(verifier.group, new_file=not users)
            if not self._seed_path.exists():
                write_private(self._seed_path, f"{secrets.token_hex(_SEED_BYTES)}\n")
            new = format_user(verifier.user, verifier.verifier, verifier.salt, index)
            lines = _without_user(text, verifier.user)
            # A replaced user keeps its place.
            place = users.index(verifier.user) if verifier.user in users else len(lines)
            lines.insert(place, new)
            write_private(self.path, _joined(lines))

    def remove(self, user: str) -> None:
        """Remove all lines of a user.

        Raises `CredentialError` as described at the class; also if there is no such user.
        """
        with exclusive_access(self.path):
            text = self._read(self.path)
            if all(line.user != user for line in parse_users(text, str(self.path))):
                raise self._unknown(user)
            write_private(self.path, _joined(_without_user(text, user)))

    def _read(self, path: Path) -> str:
        return read_private(path, _MAX_FILE_BYTES)

    def _read_users(self) -> list[UserLine]:
        return parse_users(self._read(self.path), str(self.path))

    def _read_groups(self) -> dict[int, GroupLine]:
        return parse_groups(self._read(self._conf_path), str(self._conf_path))

    def _select(self, user: str, lines: Sequence[UserLine], groups: Mapping[int, GroupLine]) -> Verifier:
        """Return the verifier of a user from the parsed files."""
        found = [line for line in lines if line.user == user]
        if not found:
            raise self._unknown(user)
        if len(found) > 1:
            raise self._repeated(user)
        line = found[0]
        where = f"{self.path}, line {line.number}: the user {user!r} cannot log in"
        if line.group_index not in groups:
            raise CredentialError(
                f"{where}: {self._conf_path} has no group with the index {line.group_index}"
            )
        try:
            group = find_group(*groups[line.group_index])
        except CredentialError as error:
            raise CredentialError(f"{where}: {error}; {_anew(user)}") from None
        salt = decode(line.salt)
        verifier = decode_number(line.verifier)
        if len(salt) > _MAX_SALT_BYTES or not 0 < verifier < group.prime:
            raise CredentialError(f"{where}: the salt or the verifier is too large or zero; {_anew(user)}")
        return Verifier(user, salt, group, verifier)

    def _simulate(self, user: str, lines: Sequence[UserLine], groups: Mapping[int, GroupLine]) -> Verifier:
        """Return what stands for an unknown user's verifier; group and salt look like most of the others'."""
        accepted = {(group.prime, group.generator): group for group in GROUPS.values()}
        counts = Counter(groups.get(line.group_index) for line in lines)
        usual = [accepted[parameters] for parameters, _ in counts.most_common() if parameters in accepted]
        group = usual[0] if usual else GROUPS[DEFAULT_BITS]
        sizes = Counter(len(decode(line.salt)) for line in lines)
        size = min(sizes.most_common(1)[0][0], _MAX_SALT_BYTES) if sizes else _SALT_BYTES
        seed = self._read_seed()
        # 16 bytes more than the prime has, so that the remainder is as good as evenly distributed.
        number = int.from_bytes(_derive(seed, "verifier", user, group.bits // 8 + 16), "big")
        return Verifier(user, _derive(seed, "salt", user, size), group, number % (group.prime - 1) + 1)

    def _read_seed(self) -> bytes:
        if not self._seed_path.exists():
            return self._own_seed
        text = self._read(self._seed_path).strip()
        if not re.fullmatch(rf"[0-9a-f]{{{2 * _SEED_BYTES}}}", text):
            raise CredentialError(
                f"{self._seed_path}, line 1: not {_SEED_BYTES} bytes in hexadecimal; "
                f"remove the file and the command generate-srp-data makes a new one"
            )
        return bytes.fromhex(text)

    def _index_of(self, group: Group, *, new_file: bool) -> int:
        """Return the index of a group in ``tpasswd.conf``, adding it (or the whole file) if it is missing."""
        if new_file and not self._conf_path.exists():
            standard = [format_group(_INDEXES[g.bits], g.prime, g.generator) for g in GROUPS.values()]
            write_private(self._conf_path, _joined(standard))
            return _INDEXES[group.bits]
        groups = self._read_groups()
        for index, line in groups.items():
            if line == (group.prime, group.generator):
                return index
        index = _INDEXES[group.bits] if _INDEXES[group.bits] not in groups else max(groups) + 1
        lines = [line for line in self._read(self._conf_path).split("\n") if line]
        write_private(self._conf_path, _joined([*lines, format_group(index, group.prime, group.generator)]))
        return index

    def _unknown(self, user: str) -> CredentialError:
        return CredentialError(f"there is no user {user!r} in {self.path}")

    def _repeated(self, user: str) -> CredentialError:
        return CredentialError(f"{self.path} has more than one line for the user {user!r}; {_anew(user)}")


def _anew(user: str) -> str:
    return f"mend it with: generate-srp-data {shlex.quote(user)}"


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _without_user(text: str, user: str) -> list[str]:
    """Return the lines that are not of `user`, without empty ones."""
    return [line for line in text.split("\n") if line and line.partition(":")[0] != user]


def _derive(seed: bytes, purpose: str, user: str, size: int) -> bytes:
    """Return `size` bytes that look random to who does not know the seed.

    The size is part of what they are derived from: a shorter salt must not be the beginning of a longer one.
    """
    text = f"{purpose}:{size}:{user}".encode(errors="surrogatepass")
    return hashlib.shake_256(hmac.digest(seed, text, "sha256")).digest(size)
