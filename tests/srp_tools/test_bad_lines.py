"""Lines of the users' file that cannot be used. Each affects only its own user."""

import re
from pathlib import Path

import pytest

from srp_tools.errors import CredentialError
from srp_tools.rules.tpasswd import format_user
from srp_tools.srp_groups import GROUPS
from srp_tools.verifier import check_password
from srp_tools.verifier_file import VerifierFile
from tests.support.verifiers import SMALL, verifier_of, write

# Lines that are malformed or cannot be used. Each affects only its own user.
BAD_LINES = {
    "garbage": (b"carol", "does not have the form user:verifier:salt:index"),
    "too few fields": (b"carol:1:2", "does not have the form"),
    "latin-1": (b"m\xfcller:1:2:3", "not UTF-8"),
    "NUL in the name": (
        format_user("carol\0", 5, bytes(16), 3).encode(),
        "the line contains a control character, number 0",
    ),
    "letters and accents apart": (
        format_user("mu\u0308ller", 5, bytes(16), 3).encode(),
        "the name has letters with separate accents",
    ),
    "binary": (bytes(range(11, 256)), "not UTF-8"),
    "equal to the prime": (
        format_user("carol", GROUPS[SMALL].prime, bytes(16), 3).encode(),
        "'carol' cannot log in: .*too large or zero",
    ),
    "zero": (
        format_user("carol", 5, bytes(16), 3).replace(":5:", ":0:").encode(),
        "'carol' cannot log in: .*too large or zero",
    ),
    "long salt": (
        format_user("carol", 5, b"\1" * 256, 3).encode(),
        "'carol' cannot log in: .*too large or zero",
    ),
    "unknown group": (
        format_user("carol", 5, bytes(16), 99).encode(),
        r"'carol' cannot log in: .*tpasswd\.conf has no group with the index 99",
    ),
    "repeated": (
        b"\n".join([format_user("carol", 5, bytes(16), 3).encode()] * 2),
        "the user 'carol' has more than one line.*generate-srp-data carol",
    ),
}
bad_lines = pytest.mark.parametrize(("line", "reason"), BAD_LINES.values(), ids=BAD_LINES.keys())


@bad_lines
@pytest.mark.parametrize("is_first", [True, False])
def test_bad_line_costs_its_own_user_only(
    file: VerifierFile, path: Path, line: bytes, reason: str, *, is_first: bool
) -> None:
    good = path.read_bytes()
    path.write_bytes(line + b"\n" + good if is_first else good + line + b"\n")
    check_password(file.lookup("alice"), "password of alice")
    check_password(file.find("bob"), "password of bob")
    fault = file.faults()[0]
    assert re.search(reason, fault)
    if "repeated" not in reason and "more than one" not in reason:
        assert fault.startswith(f"{path}, line {1 if is_first else 3}: ")
    with pytest.raises(CredentialError):
        file.find("carol")


@bad_lines
def test_user_with_a_bad_line_looks_like_an_unknown_one(
    file: VerifierFile, path: Path, line: bytes, reason: str
) -> None:
    before = file.lookup("carol")
    path.write_bytes(path.read_bytes() + line + b"\n")
    assert reason
    assert file.lookup("carol").salt == before.salt
    assert file.lookup("carol") == file.lookup("carol")


def test_a_file_of_many_short_lines_is_refused_and_the_text_says_why(file: VerifierFile, path: Path) -> None:
    text = path.read_bytes()
    path.write_bytes(text + b"a:b:c:1\n" * 50_001)
    for look in (file.users, file.faults, lambda: file.lookup("alice")):
        with pytest.raises(
            CredentialError, match=r"has 5000[0-9] lines, more than the limit of 50000; remove lines"
        ):
            look()


def test_no_user_is_added_to_a_full_file(file: VerifierFile, path: Path) -> None:
    known = path.read_bytes().count(b"\n")
    path.write_bytes(path.read_bytes() + b"#\n" * (50_000 - known))
    with pytest.raises(CredentialError, match="is full, with 50000 lines; remove"):
        file.add(verifier_of("zoe"))
    file.add(verifier_of("alice"))  # replaces the user's line
    assert file.find("alice")


def test_of_many_lines_of_one_user_the_first_are_named(file: VerifierFile, path: Path) -> None:
    known = path.read_bytes().count(b"\n")
    path.write_bytes(path.read_bytes() + b"a:b:c:1\n" * 1000)
    assert any(
        f", {known + 10} and 990 more: the user 'a' has more than one line" in fault
        for fault in file.faults()
    )


def test_a_group_with_a_huge_generator_costs_its_users_only(file: VerifierFile, path: Path) -> None:
    """Python refuses to convert the generator to decimal digits."""
    conf = path.with_name("tpasswd.conf")
    conf.write_text(conf.read_text() + f"98:z:{'z' * 5000}\n")
    path.write_text(path.read_text() + "carol:5:5:98\n")
    assert any("generator of 30000 bits is refused" in fault for fault in file.faults())
    assert file.lookup("carol")
    assert file.find("alice")


@bad_lines
def test_changes_keep_bad_lines_of_others(file: VerifierFile, path: Path, line: bytes, reason: str) -> None:
    assert reason
    path.write_bytes(line + b"\n" + path.read_bytes())
    file.add(verifier_of("dave"))
    file.add(verifier_of("alice", "new"))
    file.remove("bob")
    assert path.read_bytes().startswith(line + b"\n")
    check_password(file.find("dave"), "password of dave")
    check_password(file.find("alice"), "new")


@pytest.mark.parametrize("line", ["carol", "carol:1:2", "carol:0:000:3", "carol:1:2:3\ncarol:1:2:3"])
def test_bad_line_is_replaced_or_removed_with_its_user(file: VerifierFile, path: Path, line: str) -> None:
    good = path.read_text()
    write(path, f"{line}\n{good}")
    file.add(verifier_of("carol"))
    assert file.users() == ["carol", "alice", "bob"]
    assert file.faults() == []
    check_password(file.find("carol"), "password of carol")
    write(path, f"{line}\n{good}")
    file.remove("carol")
    assert path.read_text() == good


@pytest.mark.parametrize("text", ["\ufeff# users\r\n\r\n{}:{}\r\n", "{}:{} \t\n", "\ufeff{}:{}"])
def test_what_editors_add_costs_nothing(file: VerifierFile, path: Path, text: str) -> None:
    user, _, rest = path.read_text().splitlines()[0].partition(":")
    write(path, text.format(user, rest))
    check_password(file.lookup("alice"), "password of alice")
    assert file.faults() == []
    file.add(verifier_of("alice", "new"))
    assert file.users() == ["alice"]
    check_password(file.find("alice"), "new")


def test_bad_lines_of_groups_cost_their_users_only(file: VerifierFile, path: Path) -> None:
    conf = path.with_name("tpasswd.conf")
    write(conf, f"# groups\nx:1\n{conf.read_text()}3:1:2\n")
    check_password(file.lookup("alice"), "password of alice")
    assert file.faults() == [
        f"{conf}, line 2: the line does not have the form index:prime:generator",
        f"{conf}, line 7: an earlier line has the same index 3",
    ]
