"""The verifiers of a server, in GnuTLS's file format, so ``srptool`` can create and check the same lines.

A server must not reveal who has an account. For an unknown user it continues with a *simulated* verifier (RFC 5054,
section 2.5.1.3), so the login fails at the same point as with a wrong password. The same applies to a user whose line
cannot be used, because strangers must not learn that the line exists.

The simulated verifier must be the same for every attempt, and on every server with the same file, so it is derived from
the name and a secret seed. The seed is random and is stored in a third file in the same folder. It is not derived from
the verifiers, because then an attacker could test passwords on the answers to unknown users, without asking the server.
"""

import re
import secrets
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from srp_tools.credentials import check_user_name
from srp_tools.errors import CredentialError
from srp_tools.private_files import exclusive_access, read_private, read_private_bytes, write_private
from srp_tools.rules.tpasswd import (
    BadLine,
    GroupLine,
    UserLine,
    decode,
    decode_number,
    encode,
    format_group,
    format_user,
    name_in,
    parse_groups,
    parse_users,
)
from srp_tools.srp_groups import GROUPS, Group, find_group
from srp_tools.verifier import _MAX_SALT_BYTES, Kind, Verifier, fingerprint_of, simulate_verifier

_SEED_BYTES = 32


# About 30,000 users. Without a limit, anyone who can write the file could exhaust the memory of every login.
_MAX_FILE_BYTES = 16 * 2**20
# As many as fit into that file with the shortest valid lines. Two million shorter lines would slow each login by half a
# minute.
_MAX_LINES = 50_000
_MAX_NUMBERS = 10  # line numbers that a message lists


# The indexes that `srptool --create-conf` gives these groups, so that its default index, 3, means the same here.
_INDEXES = {2048: 3, 3072: 4, 4096: 5, 8192: 7}


class Examined(NamedTuple):
    """The contents of a server's verifier file and its companion, as returned by `VerifierFile`."""

    users: list[str]  #: see `VerifierFile.users`
    salts: list[tuple[str, bytes]]  #: see `VerifierFile.salts`
    faults: list[str]  #: see `VerifierFile.faults`


class VerifierFile:
    """The verifiers of a server, in a file that ``srptool`` understands.

    Every method reads the file again, so a change takes effect with the next login. Every method requires that the
    file, its companions and their folder are not accessible to others. A line that cannot be used affects only its own
    user; `faults` lists all such lines. The methods that change the file preserve all lines of other users, replace
    the file atomically (a reader sees the old contents or the new), and wait for each other, also between processes.
    After an error, nothing has changed.

    Parameters
    ----------
    path
        The ``tpasswd`` file. In the same folder are ``tpasswd.conf`` with the groups, and ``tpasswd.seed`` with the
        secret behind simulated verifiers, which is created when it is needed.
    spare
        A folder for the seed if it cannot be created beside the file. The folder is created, too.

    Raises
    ------
    CredentialError
        In every method: a file is missing, accessible to others, or has more than 16 MiB or 50,000 lines; the message
        says what to do.
    """

    def __init__(self, path: Path, spare: Path | None = None) -> None:
        self.path = path
        self._conf_path = path.with_name(f"{path.name}.conf")
        self._seed_paths = [path.with_name(f"{path.name}.seed")]
        if spare is not None:
            self._seed_paths.append(spare / f"{path.name}.seed")

    def __contains__(self, user: str) -> bool:
        return user in self.users()

    def users(self) -> list[str]:
        """Return the names of all users with a well-formed line, in the order of the file."""
        return list(dict.fromkeys(line.user for line in self._read_users()[0]))

    def faults(self) -> list[str]:
        """Return the faults in both files, each with its line number."""
        return self.examine().faults

    def salts(self) -> list[tuple[str, bytes]]:
        """Return all users who can log in, with their salts, in the order of the file. See `fingerprint_of`."""
        return self.examine().salts

    def examine(self) -> "Examined":
        """Return the contents of both files, from a single read."""
        lines, bad_lines = self._read_users()
        groups, bad_groups = self._read_groups()
        faults = [f"{self.path}, line {number}: {reason}" for number, reason in bad_lines]
        faults += [f"{self._conf_path}, line {number}: {reason}" for number, reason in bad_groups]
        by_user: dict[str, list[UserLine]] = {}
        for line in lines:
            by_user.setdefault(line.user, []).append(line)
        faults += [str(self._repeated(found)) for found in by_user.values() if len(found) > 1]
        salts = []
        for line in lines:
            try:
                verifier = self._verifier(line, groups)
            except CredentialError as error:
                faults.append(str(error))
            else:
                salts += [(line.user, verifier.salt)] if len(by_user[line.user]) == 1 else []
        return Examined(list(by_user), salts, faults)

    def fingerprint(self) -> str:
        """Return the fingerprint of all users who can log in."""
        return fingerprint_of(self.salts())

    def stamp(self) -> object:
        """Return a value that changes when the file, its groups or their permissions change."""
        stamps = []
        for path in (self.path, self._conf_path):
            try:
                facts = path.stat()
                stamps.append((facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns))
            except OSError as error:
                stamps.append((error.errno or 0, 0, 0, 0))
        return stamps

    def find(self, user: str) -> Verifier:
        """Return the verifier of a user.

        Raises `CredentialError` if the user does not exist, has two lines, or has a line that cannot be used. Other
        users are not affected.
        """
        # Read users before groups: a group is written before the first user in it.
        found = [line for line in self._read_users()[0] if line.user == user]
        groups = self._read_groups()[0]
        if not found:
            raise self._unknown(user)
        if len(found) > 1:
            raise self._repeated(found)
        return self._verifier(found[0], groups)

    def lookup(self, user: str, *, is_known: bool = True) -> Verifier:
        """Return the verifier of a user, or a simulated one if the user is unknown or `find` would raise an error.

        Both cases take the same time, except for some microseconds.

        `user`: any text, as sent by a peer. `is_known`: whether the user may log in at all. If not, the result is the
        simulated verifier of a name that is not in the file.
        """
        lines = self._read_users()[0]
        groups = self._read_groups()[0]
        simulated = simulate_verifier(user, self._seed(), _count_kinds(lines, groups))
        found = [line for line in lines if line.user == user]
        try:
            # Decode a line for an unknown user as well, to take the same time.
            answers = [self._verifier(line, groups) for line in (found or lines[:1])]
        except CredentialError:
            return simulated
        return answers[0] if is_known and len(found) == 1 else simulated

    def add(self, verifier: Verifier) -> None:
        """Write the verifier of a new user, or replace all lines of a known user, even malformed and repeated lines.

        Missing files and the folder are created.

        Raises `ConfigurationError` if the user name is not allowed. Raises `CredentialError` as described for the
        class, and for a salt that the format cannot represent.
        """
        check_user_name(verifier.user)
        if not 0 < len(verifier.salt) <= _MAX_SALT_BYTES or decode(encode(verifier.salt)) != verifier.salt:
            raise CredentialError(f"the salt of {verifier.user!r} cannot be represented in this file format")
        with exclusive_access(self.path):
            text = self._read(self.path) if self.path.exists() else ""
            lines = [line for line in text.split("\n") if line]
            # A replaced user keeps the same position.
            place = next((n for n, line in enumerate(lines) if name_in(line) == verifier.user), len(lines))
            if place >= _MAX_LINES:
                raise CredentialError(
                    f"{self.path} is full, with {len(lines)} lines; remove lines that are not needed"
                )
            # Write the group and the seed first: a reader must not find a user whose group does not exist yet.
            index = self._index_of(verifier.group, new_file=not parse_users(text)[0])
            if not self._seed_paths[0].exists():
                self._write_seed(self._seed_paths[0])
            new = format_user(verifier.user, verifier.verifier, verifier.salt, index)
            others = [_without_user(part, verifier.user) for part in (lines[:place], lines[place:])]
            write_private(self.path, _joined([*others[0], new, *others[1]]))

    def remove(self, user: str) -> None:
        """Remove all lines of a user, including malformed ones.

        Raises `CredentialError` as described for the class, and if the user does not exist.
        """
        with exclusive_access(self.path):
            lines = [line for line in self._read(self.path).split("\n") if line]
            others = _without_user(lines, user)
            if others == lines:
                raise self._unknown(user)
            write_private(self.path, _joined(others))

    def _read(self, path: Path) -> str:
        data = read_private_bytes(path, _MAX_FILE_BYTES)
        if (count := data.count(b"\n")) > _MAX_LINES:
            raise CredentialError(
                f"{path} has {count} lines, more than the limit of {_MAX_LINES}; remove lines that are not users"
            )
        return data.decode(errors="surrogateescape")

    def _read_users(self) -> tuple[list[UserLine], list[BadLine]]:
        return parse_users(self._read(self.path))

    def _read_groups(self) -> tuple[dict[int, GroupLine], list[BadLine]]:
        return parse_groups(self._read(self._conf_path))

    def _verifier(self, line: UserLine, groups: Mapping[int, GroupLine]) -> Verifier:
        """Return the verifier of a line. Raise `CredentialError` if the line cannot be used."""
        user = line.user
        where = f"{self.path}, line {line.number}: the user {user!r} cannot log in"
        if line.group_index not in groups:
            raise CredentialError(
                f"{where}: {self._conf_path} has no group with the index {line.group_index}"
            )
        try:
            group = find_group(*groups[line.group_index])
        except CredentialError as error:
            raise CredentialError(f"{where}: {error}; {_how_to_fix(user)}") from None
        salt = decode(line.salt)
        verifier = decode_number(line.verifier)
        if len(salt) > _MAX_SALT_BYTES or not 0 < verifier < group.prime:
            raise CredentialError(
                f"{where}: the salt or the verifier is too large or zero; {_how_to_fix(user)}"
            )
        return Verifier(user, salt, group, verifier)

    def _seed(self) -> bytes:
        """Return the secret behind simulated verifiers. Create it if it is missing."""
        path = next((path for path in self._seed_paths if path.exists()), None) or self._make_seed()
        text = read_private(path, _MAX_FILE_BYTES).strip()
        if not re.fullmatch(rf"[0-9a-f]{{{2 * _SEED_BYTES}}}", text):
            raise CredentialError(
                f"{path}, line 1: not {_SEED_BYTES} bytes in hexadecimal; "
                f"remove the file, then the next login creates a new one"
            )
        return bytes.fromhex(text)

    def _make_seed(self) -> Path:
        """Create the seed in the first place that is writable, and return its path."""
        reasons = []
        for path in self._seed_paths:
            try:
                with exclusive_access(path.with_suffix("")):
                    if not path.exists():  # another process may have been faster
                        self._write_seed(path)
            except CredentialError as error:
                reasons.append(str(error))
            else:
                return path
        raise CredentialError(
            f"the secret behind the answers to unknown users is missing and cannot be created: {'; '.join(reasons)}"
        )

    def _write_seed(self, path: Path) -> None:
        write_private(path, f"{secrets.token_hex(_SEED_BYTES)}\n")

    def _index_of(self, group: Group, *, new_file: bool) -> int:
        """Return the index of a group in ``tpasswd.conf``. Add the group, or create the file, if it is missing."""
        if new_file and not self._conf_path.exists():
            standard = [format_group(_INDEXES[g.bits], g.prime, g.generator) for g in GROUPS.values()]
            write_private(self._conf_path, _joined(standard))
            return _INDEXES[group.bits]
        groups, _ = self._read_groups()
        for index, line in groups.items():
            if line == (group.prime, group.generator):
                return index
        index = _INDEXES[group.bits] if _INDEXES[group.bits] not in groups else max(groups) + 1
        lines = [line for line in self._read(self._conf_path).split("\n") if line]
        write_private(self._conf_path, _joined([*lines, format_group(index, group.prime, group.generator)]))
        return index

    def _unknown(self, user: str) -> CredentialError:
        return CredentialError(f"there is no user {user!r} in {self.path}")

    def _repeated(self, found: Sequence[UserLine]) -> CredentialError:
        user, numbers = found[0].user, ", ".join(str(line.number) for line in found[:_MAX_NUMBERS])
        if len(found) > _MAX_NUMBERS:
            numbers += f" and {len(found) - _MAX_NUMBERS} more"
        return CredentialError(
            f"{self.path}, lines {numbers}: the user {user!r} has more than one line and cannot log in; "
            f"{_how_to_fix(user)}"
        )


def _how_to_fix(user: str) -> str:
    return f"fix it with: generate-srp-data {shlex.quote(user)}"


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _without_user(lines: Sequence[str], user: str) -> list[str]:
    """Return the lines that do not belong to `user`."""
    return [line for line in lines if name_in(line) != user]


def _count_kinds(lines: Sequence[UserLine], groups: Mapping[int, GroupLine]) -> Counter[Kind]:
    """Return the number of users with verifiers of each kind."""
    accepted = {(group.prime, group.generator): group for group in GROUPS.values()}
    usable = {index: accepted[line] for index, line in groups.items() if line in accepted}
    sizes = ((line.group_index, len(decode(line.salt))) for line in lines if line.group_index in usable)
    return Counter(Kind(usable[index], size) for index, size in sizes if size <= _MAX_SALT_BYTES)
