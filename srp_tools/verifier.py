"""Verifiers: what a server keeps to check a password against, and from which it cannot be read (RFC 5054)."""

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

# As many as srptool takes. Not 2 modulo 3, where the format loses a zero in front.
_SALT_BYTES = 16

# TLS has one byte for the length of a salt (RFC 5054, section 2.6).
_MAX_SALT_BYTES = 255

# 64 bits: no two files have the same by chance, and nothing is gained by making one on purpose.
_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True)
class Verifier:
    """What a server knows of one user.

    Parameters
    ----------
    user
        The name.
    salt
        1 to 255 bytes; not part of the ``repr``, nor is the next.
    group
        The group that the verifier is computed in.
    verifier
        The number v of RFC 5054.
    is_simulated
        Whether it stands for a user who cannot log in, so that nobody can have proved a password with it.
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
        Which of `srp_tools.srp_groups.GROUPS`.

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
        It is another one.
    """
    size = verifier.group.bits // 8
    wrong = AuthenticationError(f"wrong password for {verifier.user!r}")
    try:
        prepared = prepare_password(password)
    except ConfigurationError as error:  # no user can have it
        raise wrong from error
    computed = _compute(verifier.user, prepared, verifier.salt, verifier.group)
    if not hmac.compare_digest(computed.to_bytes(size, "big"), verifier.verifier.to_bytes(size, "big")):
        raise wrong


def fingerprint_of(salts: Iterable[tuple[str, bytes]]) -> str:
    """Return 16 hexadecimal digits for people to compare: the same for the same users and salts, in whatever order.

    A server tells the salt of a user to anyone who begins a login, so nothing secret is in it. A digest of verifiers
    would let its readers try passwords. Nor is that needed: a new verifier always has a new salt.

    Examples
    --------
    >>> fingerprint_of([("alice", b"one"), ("bob", b"two")]) == fingerprint_of([("bob", b"two"), ("alice", b"one")])
    True
    >>> len({fingerprint_of([("alice", b"one")]), fingerprint_of([("bob", b"one")]), fingerprint_of([])})
    3
    """
    # No name has a colon or an end of line in it: different users never make the same text.
    text = "".join(sorted(f"{user}:{salt.hex()}\n" for user, salt in salts))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_FINGERPRINT_DIGITS]


class Kind(NamedTuple):
    """What of a verifier anybody can see who tries to log in."""

    group: Group
    salt_bytes: int


def simulate_verifier(user: str, seed: bytes, counts: Mapping[Kind, int]) -> Verifier:
    """Return what stands for an unknown user's verifier: always the same one for a name and a seed.

    `counts`: how many users have verifiers of each kind. Simulated ones are of the same kinds, in the same proportion,
    and a name keeps its kind, but for a few names, when users come and go ("rendezvous hashing", with weights).
    """
    group, size = _choose(user, seed, counts or {Kind(GROUPS[DEFAULT_BITS], _SALT_BYTES): 1})
    # 16 bytes more than the prime has, so that the remainder is as good as evenly distributed.
    number = int.from_bytes(_derive(seed, "verifier", user, group.bits // 8 + 16), "big")
    salt = _derive(seed, "salt", user, size)
    return Verifier(user, salt, group, number % (group.prime - 1) + 1, is_simulated=True)


def _choose(user: str, seed: bytes, counts: Mapping[Kind, int]) -> Kind:
    def score(kind: Kind) -> float:
        draw = _derive(seed, f"kind:{kind.group.bits}:{kind.salt_bytes}", user, 8)
        return -math.log((int.from_bytes(draw, "big") + 1) / 2**64) / counts[kind]

    return min(counts, key=score)


def _derive(seed: bytes, purpose: str, user: str, size: int) -> bytes:
    """Return `size` bytes that look random to whoever does not know the seed.

    The size is part of what they are derived from: a shorter salt must not be the beginning of a longer one.
    """
    text = f"{purpose}:{size}:{user}".encode(errors="surrogatepass")
    return hashlib.shake_256(hmac.digest(seed, text, "sha256")).digest(size)


def _compute(user: str, password: str, salt: bytes, group: Group) -> int:
    # RFC 5054, section 2.4. SHA-1 is part of the standard; what is asked of it is not resistance to
    # collisions.
    inner = hashlib.sha1(f"{user}:{password}".encode(errors="surrogatepass"), usedforsecurity=False).digest()
    x = hashlib.sha1(salt + inner, usedforsecurity=False).digest()
    return secret_power(group.generator, int.from_bytes(x, "big"), group.prime)
