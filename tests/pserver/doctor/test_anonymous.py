"""The placeholders for names, addresses and secrets."""

import json

import pytest

from pserver.doctor.anonymous import Anonymous


@pytest.fixture
def anonymous() -> Anonymous:
    return Anonymous(
        ["alice", "jürgen", "a b"], ["alpha.example.org", "alpha"], ["hunter2!", "geheim-ß"], "/home/alice"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alice at alpha", "user-1 at host-1"),
        ("alice's malice", "user-1's malice"),
        ("/home/alice/x /home/alice2 /srv/alice/y", "~/x /home/user-1 /srv/user-2/y"),
        ('user="j\\u00fcrgen" and jürgen', 'user="user-1" and user-1'),
        ('user="a b"', 'user="user-1"'),
        ("session 5 of user 'a b', network", "session 5 of user 'user-1', network"),
        (
            "from 192.0.2.7 port 5 via 192.0.2.7, 198.51.100.1",
            "from address-1 port 5 via address-1, address-2",
        ),
        ("at 2001:db8::1, [2001:db8::1]:5", "at address-1, [address-1]:5"),
        ("at 127.0.0.1, ::1, 0.0.0.0", "at 127.0.0.1, ::1, 0.0.0.0"),
        ("192.0.2.7:5000 10.1.0.0/16 (192.0.2.7)", "address-1:5000 address-2/16 (address-1)"),
        ("::ffff:192.0.2.7 fe80::1%eth0.", "::ffff:address-1 address-2%eth0."),
        ("12:30:45 and 1.2.3 and 999.1.1.1", "12:30:45 and 1.2.3 and 999.1.1.1"),
        ("network=0123456789abcdef0123456789abcdef!", "network=id-1!"),
        ("xhunter2!x geheim-\\u00df geheim-ß", "x(secret)x (secret) (secret)"),
        ("alpha.example.org", "host-1"),
    ],
)
def test_what_is_replaced(anonymous: Anonymous, text: str, shown: str) -> None:
    assert anonymous.text(text) == shown


def test_the_user_of_a_failed_login_may_be_a_password(anonymous: Anonymous) -> None:
    typed = 'My dog\'s "name"'
    line = f"audit failed-login from 192.0.2.1 port 5 user={json.dumps(typed)} reason=..."
    shown = anonymous.text(line)
    assert shown == 'audit failed-login from address-1 port 5 user="user-1" reason=...'
    assert anonymous.text(f"{line} again {typed}") == f"{shown} again user-1"
    assert anonymous.text('"user": "carol"') == '"user": "user-2"'


def test_lines_of_a_log_in_json(anonymous: Anonymous) -> None:
    text = 'audit failed-login from 192.0.2.1 user="typed" reason="unknown"'
    line = json.dumps({"message": text, "user": "typed"})
    shown = anonymous.text(line)
    assert json.loads(shown) == {
        "message": 'audit failed-login from address-1 user="user-1" reason="unknown"',
        "user": "user-1",
    }
    assert "secret" not in anonymous.text(json.dumps({"message": 'user="a \\"secret\\" b" reason="x"'}))


def test_the_names_of_words_are_replaced_once() -> None:
    anonymous = Anonymous(["user", "id", "alice", "al"], ["host"], [], "")
    assert anonymous.text('user="alice" of user, al-alice at host, id') == (
        'user-2="user-1" of user-2, user-4-user-1 at host-1, user-3'
    )
    assert anonymous.text("alice") == "user-1"


def test_many_users_take_no_time() -> None:
    anonymous = Anonymous([f"user{number}@example" for number in range(30_000)], [], [], "")
    assert anonymous.text("user29999@example, user1@example " * 1000).count("user-2") == 1000


def test_a_broken_line_is_no_error(anonymous: Anonymous) -> None:
    assert anonymous.text('user="\\q" user="open') == 'user="user-1" user="open'
