"""Weak passwords are recognized, and others are not."""

import secrets
import time

import pytest

from srp_tools.rules.common_passwords import COMMON
from srp_tools.rules.weak_passwords import weakness

FIRST = "it consists mainly of common words, names, years or keyboard rows"


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("x", "it has only 1 character"),
        ("sevench", "it has only 7 characters"),
        ("eleven char", "it has only 11 characters"),
        ("abababababab", "it has only 2 different characters"),
        ("ALICE-2024-xy", "it consists mainly of the user name"),
        ("alicealice12", "it consists mainly of the user name"),
        ("ecila-ecila-1", "it consists mainly of the user name"),
        ("Password123!", FIRST),
        ("P4$$w0rd 2024", FIRST),
        ("qwertyuiop12", FIRST),
        ("poiuytrewq99", FIRST),
        ("letmein-letmein", FIRST),
        ("dragonmonkey99", FIRST),
        ("Summer2024Summer", FIRST),
        ("xyz!xyz!xyz!xyz!xyz!", FIRST),
    ],
)
def test_weak_passwords_are_seen(password: str, reason: str) -> None:
    assert weakness(password, "alice") == reason


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "alices-garden-gate",
        "l8Kq-_zz90aE",
        "Sommerregen im April",
        "\u00f6ffne dich, bitte",
    ],
)
def test_others_are_not(password: str) -> None:
    assert weakness(password, "alice") == ""


def test_random_passwords_are_not() -> None:
    assert [text for text in (secrets.token_urlsafe(24) for _ in range(500)) if weakness(text, "bob")] == []


def test_the_longest_password_takes_no_time() -> None:
    began = time.process_time()
    assert weakness("".join(map(chr, range(300, 1324))), "alice") == ""
    assert time.process_time() - began < 10


def test_the_list_has_nothing_that_is_never_looked_for() -> None:
    assert [word for word in COMMON if len(word) < 4 or word != word.casefold()] == []
