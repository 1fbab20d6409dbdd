"""Verifiers: the arithmetic of RFC 5054."""

import dataclasses

import pytest

from srp_tools.credentials import Credentials
from srp_tools.errors import AuthenticationError
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS, Group
from srp_tools.verifier import Verifier, check_password, make_verifier

SMALL = 2048  # the fastest group


def verifier_of(user: str, password: str = "", bits: int = SMALL) -> Verifier:
    return make_verifier(Credentials(user, password or f"password of {user}"), bits)


def test_verifier_agrees_with_the_vector_of_the_standard() -> None:
    # RFC 5054, appendix B, uses a group of 1024 bits, which is allowed only in a test.
    prime = int(
        "EEAF0AB9ADB38DD69C33F80AFA8FC5E86072618775FF3C0B9EA2314C9C256576D674DF7496EA81D3383B4813D692C6E0"
        "E0D5D8E250B98BE48E495C1D6089DAD15DC7D7B46154D6B6CE8EF4AD69B15D4982559B297BCF1885C529F566660E57EC"
        "68EDBC3C05726CC02FD4CBF4976EAA9AFD5138FE8376435B9FC61D2FC0EB06E3",
        16,
    )
    expected = int(
        "7E273DE8696FFC4F4E337D05B4B375BEB0DDE1569E8FA00A9886D8129BADA1F1822223CA1A605B530E379BA4729FDC59"
        "F105B4787E5186F5C671085A1447B52A48CF1970B4FB6F8400BBF4CEBFBB168152E08AB5EA53D15C1AFF87B2B9DA6E04"
        "E058AD51CC72BFC9033B564E26480D78E955A5E29E7AB245DB2BE315E2099AFB",
        16,
    )
    salt = bytes.fromhex("BEB25379D1A8581EB5A727673A2441EE")
    verifier = Verifier("alice", salt, Group(1024, 2, prime), expected)
    check_password(verifier, "password123")
    with pytest.raises(AuthenticationError):
        check_password(dataclasses.replace(verifier, salt=salt[::-1]), "password123")


@pytest.mark.parametrize("bits", GROUPS)
def test_right_password_passes_and_others_do_not(bits: int) -> None:
    verifier = verifier_of("alice", "sesame", bits)
    check_password(verifier, "sesame")
    assert verifier.group is GROUPS[bits]
    for wrong in ("Sesame", "", "sesame ", "\ud800"):
        with pytest.raises(AuthenticationError, match="wrong password for 'alice'"):
            check_password(verifier, wrong)
    with pytest.raises(AuthenticationError):
        check_password(dataclasses.replace(verifier, user="bob"), "sesame")


def test_salt_is_fresh_and_the_group_is_the_default() -> None:
    one, two = (make_verifier(Credentials("alice", "sesame")) for _ in range(2))
    assert one.salt != two.salt
    assert len(one.salt) == 16
    assert one.verifier != two.verifier
    assert one.group.bits == DEFAULT_BITS


def test_repr_hides_what_a_password_could_be_guessed_from() -> None:
    verifier = verifier_of("alice")
    assert str(verifier.verifier) not in repr(verifier)
    assert repr(verifier.salt) not in repr(verifier)
    assert "alice" in repr(verifier)


# The file.
