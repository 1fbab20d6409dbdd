"""Verifiers: a server checks a password against a verifier, which does not reveal the password (RFC 5054)."""

import hashlib
import hmac
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from srp_tools.credentials import Credentials
from srp_tools.errors import AuthenticationError, ConfigurationError
from srp_tools.rules.precis import prepare_password
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS, Group, secret_power

# The same as in srptool. Not 2 modulo 3, because the format then loses a leading zero.
_SALT_BYTES = 16

# TLS has one byte for the length of a salt (RFC 5054, section 2.6).
_MAX_SALT_BYTES = 255

# 64 bits: two files never have the same fingerprint by chance, and nobody gains anything by forging one.
_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class Verifier:
    """A server's record of one user.

    Parameters
    ----------
    user
        The name.
    salt
        1 to 255 bytes; not shown in the ``repr``.
    group
        The SRP group of the verifier.
    verifier
        The number v of RFC 5054; not shown in the ``repr``.
    is_simulated
        Whether it belongs to a user who cannot log in. No password matches it.
    """

    user: str
    salt: bytes = field(repr=False)
    group: Group
    verifier: int = field(repr=False)
    is_simulated: bool = field(default=False, repr=False)


def make_verifier(credentials: Credentials, bits: int = DEFAULT_BITS) -> Verifier:
    """Compute a verifier with a fresh salt.

    Parameters
    ----------
    credentials
        The user and the password.
    bits
        Size of the group, a key of `srp_tools.srp_groups.GROUPS`.

    Examples
    --------
    >>> verifier = make_verifier(Credentials("alice", "correct horse"))
    >>> verifier
    Verifier(user='alice', group=Group(bits=3072, generator=5))
    >>> check_password(verifier, "correct horse")
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    group = GROUPS[bits]
    return Verifier(
        credentials.user, salt, group, _compute(credentials.user, credentials.password, salt, group)
    )


def check_password(verifier: Verifier, password: str) -> None:
    """Check a password against a verifier.

    Raises
    ------
    AuthenticationError
        The password is wrong.
    """
    size = verifier.group.bits // 8
    wrong = AuthenticationError(f"wrong password for {verifier.user!r}")
    try:
        prepared = prepare_password(password)
    except ConfigurationError as error:  # no user can have this password
        raise wrong from error
    computed = _compute(verifier.user, prepared, verifier.salt, verifier.group)
    if not hmac.compare_digest(computed.to_bytes(size, "big"), verifier.verifier.to_bytes(size, "big")):
        raise wrong


def fingerprint_of(salts: Iterable[tuple[str, bytes]]) -> str:
    """Return 16 hexadecimal digits for people to compare. They depend on the users and their salts, not on the order.

    The salts are not secret: a server sends the salt of a user to anyone who starts a login. A digest of verifiers
    would let anyone who reads it try passwords. The verifiers are not needed: a new verifier always has a new salt.

    Examples
    --------
    >>> fingerprint_of([("alice", b"one"), ("bob", b"two")]) == fingerprint_of([("bob", b"two"), ("alice", b"one")])
    True
    >>> len({fingerprint_of([("alice", b"one")]), fingerprint_of([("bob", b"one")]), fingerprint_of([])})
    3
    """
    # Names contain neither colons nor line ends, so different users never make the same text.
    text = "".join(sorted(f"{user}:{salt.hex()}\n" for user, salt in salts))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_FINGERPRINT_DIGITS]


class Kind(NamedTuple):
    """The properties of a verifier that anyone who tries to log in can see."""

    group: Group
    salt_bytes: int


def simulate_verifier(user: str, seed: bytes, counts: Mapping[Kind, int]) -> Verifier:
    """Return a simulated verifier for an unknown user. It is always the same for a name and a seed.

    `counts`: the number of users with verifiers of each kind. Simulated verifiers have the same kinds in the same
    proportions. Most names keep their kind when users are added or removed (weighted "rendezvous hashing").
    """
    group, size = _choose(user, seed, counts or {Kind(GROUPS[DEFAULT_BITS], _SALT_BYTES): 1})
    # 16 bytes more than the prime has, so that the remainder is almost uniformly distributed.
    number = int.from_bytes(_derive(seed, "verifier", user, group.bits // 8 + 16), "big")
    salt = _derive(seed, "salt", user, size)
    return Verifier(user, salt, group, number % (group.prime - 1) + 1, is_simulated=True)


def _choose(user: str, seed: bytes, counts: Mapping[Kind, int]) -> Kind:
    def score(kind: Kind) -> float:
        draw = _derive(seed, f"kind:{kind.group.bits}:{kind.salt_bytes}", user, 8)
        return -math.log((int.from_bytes(draw, "big") + 1) / 2**64) / counts[kind]

    return min(counts, key=score)


def _derive(seed: bytes, purpose: str, user: str, size: int) -> bytes:
    """Return `size` bytes that look random to anyone without the seed.

    The bytes also depend on the size: a shorter salt must not be the beginning of a longer one.
    """
    text = f"{purpose}:{size}:{user}".encode(errors="surrogatepass")
    return hashlib.shake_256(hmac.digest(seed, text, "sha256")).digest(size)


def _compute(user: str, password: str, salt: bytes, group: Group) -> int:
    # RFC 5054, section 2.4. The standard prescribes SHA-1; collision resistance is not needed here.
    inner = hashlib.sha1(f"{user}:{password}".encode(errors="surrogatepass"), usedforsecurity=False).digest()
    x = hashlib.sha1(salt + inner, usedforsecurity=False).digest()
    return secret_power(group.generator, int.from_bytes(x, "big"), group.prime)
