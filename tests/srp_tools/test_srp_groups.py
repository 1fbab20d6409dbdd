"""The numbers of the groups, and the groups that are refused."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlslite.mathtls import goodGroupParameters

from srp_tools.errors import CredentialError
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS, find_group, secret_power


def is_probable_prime(number: int) -> bool:
    """Do one round of the Miller-Rabin test, which is enough to detect a wrong digit."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    power = pow(2, odd >> twos, number)
    return power == 1 or any(pow(power, 1 << i, number) == number - 1 for i in range(twos))


@pytest.mark.parametrize("bits", GROUPS)
def test_length_is_as_named(bits: int) -> None:
    assert GROUPS[bits].bits == bits
    assert GROUPS[bits].prime.bit_length() == bits


@pytest.mark.parametrize("bits", GROUPS)
def test_numbers_agree_with_an_independent_list(bits: int) -> None:
    assert (GROUPS[bits].generator, GROUPS[bits].prime) in goodGroupParameters


# The larger ones take seconds; the independent list above covers them.
@pytest.mark.parametrize("bits", [2048, 3072])
def test_primes_are_safe(bits: int) -> None:
    prime = GROUPS[bits].prime
    assert is_probable_prime(prime)
    assert is_probable_prime((prime - 1) // 2)


def test_default_is_listed() -> None:
    assert GROUPS[DEFAULT_BITS].bits == 3072


@pytest.mark.parametrize("group", GROUPS.values(), ids=lambda group: str(group.bits))
def test_each_listed_group_is_found(group: object) -> None:
    assert dataclasses.is_dataclass(group)
    facts = dataclasses.asdict(group)  # type: ignore[arg-type]
    assert find_group(facts["prime"], facts["generator"]) is group


@pytest.mark.parametrize(
    ("prime", "generator"),
    [
        *[(prime, generator) for generator, prime in goodGroupParameters if prime.bit_length() < 2048],
        (GROUPS[2048].prime + 2, 2),
        (GROUPS[2048].prime, 5),
        (GROUPS[3072].prime * 3, 5),
        (1, 2),
        (0, 0),
    ],
)
def test_every_other_group_is_refused(prime: int, generator: int) -> None:
    with pytest.raises(CredentialError, match=rf"a {prime.bit_length()}-bit SRP group .* is refused"):
        find_group(prime, generator)


def test_list_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        GROUPS[512] = GROUPS[2048]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        GROUPS[2048].prime = 23  # type: ignore[misc]


@given(st.integers(0, GROUPS[2048].prime), st.integers(1, 2**320))
def test_it_is_the_power(base: int, exponent: int) -> None:
    found = secret_power(base, exponent, GROUPS[2048].prime)
    assert type(found) is int
    assert found == pow(base, exponent, GROUPS[2048].prime)


@pytest.mark.parametrize(("exponent", "modulus"), [(0, 7), (-1, 7), (5, 8)])
def test_what_has_no_constant_time_is_refused(exponent: int, modulus: int) -> None:
    with pytest.raises(ValueError, match="powmod_sec"):
        secret_power(3, exponent, modulus)
