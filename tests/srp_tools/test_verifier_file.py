"""The verifier file. `integration/test_srptool` tests it with GnuTLS's own program."""

import dataclasses
import hashlib
import re
import secrets
import shutil
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.rules.tpasswd import format_group
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS
from srp_tools.verifier import Verifier, check_password
from srp_tools.verifier_file import VerifierFile
from tests.support.verifiers import SMALL, verifier_of, write


def test_added_users_are_found(file: VerifierFile, path: Path) -> None:
    assert file.users() == ["alice", "bob"]
    assert "alice" in file
    assert "ali" not in file
    check_password(VerifierFile(path).find("bob"), "password of bob")
    assert file.lookup("bob") == file.find("bob")


@given(
    salt=st.binary(min_size=1, max_size=255).filter(lambda salt: not (len(salt) % 3 == 2 and salt[0] == 0)),
    zeros=st.integers(0, 80),
    bits=st.sampled_from([2048, 3072, 4096, 8192]),
    rest=st.integers(min_value=1),
)
@example(salt=bytes(16), zeros=0, bits=2048, rest=1)
@example(salt=bytes(255), zeros=0, bits=8192, rest=GROUPS[8192].prime - 2)
def test_any_verifier_comes_back(
    salt: bytes, zeros: int, bits: int, rest: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    number = (rest % (GROUPS[bits].prime - 1) + 1) >> zeros or 1
    verifier = Verifier("alice", salt, GROUPS[bits], number)
    file = VerifierFile(tmp_path_factory.getbasetemp() / "any-verifier" / "tpasswd")
    file.add(verifier)
    assert file.find("alice") == verifier


def test_known_user_is_replaced_in_place_and_other_lines_stay(file: VerifierFile, path: Path) -> None:
    before = path.read_text().splitlines()
    file.add(verifier_of("alice", "new"))
    after = path.read_text().splitlines()
    assert len(after) == 2
    assert after[0].startswith("alice:")
    assert after[0] != before[0]
    assert after[1] == before[1]
    check_password(file.find("alice"), "new")


def test_user_is_matched_exactly(file: VerifierFile) -> None:
    for name in ("ali", "alice2", "Alice", "a.ice"):
        file.add(verifier_of(name))
    assert file.users() == ["alice", "bob", "ali", "alice2", "Alice", "a.ice"]
    file.remove("a.ice")
    file.remove("ali")
    assert file.users() == ["alice", "bob", "alice2", "Alice"]
    check_password(file.find("alice"), "password of alice")


def test_last_user_can_be_removed(file: VerifierFile, path: Path) -> None:
    file.remove("bob")
    file.remove("alice")
    assert (file.users(), path.read_text()) == ([], "")
    file.add(verifier_of("carol"))
    assert file.users() == ["carol"]


@pytest.mark.parametrize("user", ["carol", "", "ali", "alice:", "\ud800"])
def test_unknown_user_is_one_of_our_errors(file: VerifierFile, path: Path, user: str) -> None:
    before = path.read_text()
    for method in (file.find, file.remove):
        with pytest.raises(CredentialError, match="there is no user"):
            method(user)
    assert path.read_text() == before


def test_all_files_are_private(file: VerifierFile, path: Path) -> None:
    assert file.users()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [
        "tpasswd",
        "tpasswd.conf",
        "tpasswd.lock",
        "tpasswd.seed",
    ]
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["tpasswd", "tpasswd.conf", "tpasswd.seed"])
def test_file_open_to_others_is_refused(file: VerifierFile, path: Path, name: str) -> None:
    path.with_name(name).chmod(0o640)
    with pytest.raises(CredentialError, match=rf"{name} is open to others .*chmod 600"):
        file.lookup("alice")


def test_folder_open_to_others_is_refused(file: VerifierFile, path: Path) -> None:
    path.parent.chmod(0o755)
    for action in (file.users, lambda: file.find("alice"), lambda: file.remove("alice")):
        with pytest.raises(CredentialError, match="chmod 700"):
            action()
    with pytest.raises(CredentialError, match="chmod 700"):
        file.add(verifier_of("carol"))
    path.parent.chmod(0o700)
    assert file.users() == ["alice", "bob"]


def test_missing_files_name_the_command_that_makes_them(file: VerifierFile, path: Path) -> None:
    path.with_name("tpasswd.conf").unlink()
    with pytest.raises(CredentialError, match=r"tpasswd\.conf; .*generate-srp-data"):
        file.find("alice")
    # Without the groups, the indexes of existing lines have no meaning, so nothing may be added.
    with pytest.raises(CredentialError, match=r"tpasswd\.conf"):
        file.add(verifier_of("carol"))
    path.unlink()
    with pytest.raises(CredentialError, match=r"tpasswd; .*generate-srp-data"):
        file.users()


def test_too_large_file_is_refused(file: VerifierFile, path: Path) -> None:
    with path.open("a") as stream:
        stream.truncate(16 * 2**20 + 1)
    with pytest.raises(CredentialError, match="too large"):
        file.users()


def test_repeated_user_is_refused_until_replaced_and_others_are_not(file: VerifierFile, path: Path) -> None:
    first = path.read_text().splitlines()[0]
    write(path, f"{path.read_text()}{first}\n")
    with pytest.raises(
        CredentialError, match=r"the user 'alice' has more than one line.*generate-srp-data alice"
    ):
        file.find("alice")
    assert file.users() == ["alice", "bob"]
    check_password(file.lookup("bob"), "password of bob")
    file.add(verifier_of("alice", "new"))
    assert file.users() == ["alice", "bob"]
    check_password(file.find("alice"), "new")


def test_repeated_user_can_be_removed(file: VerifierFile, path: Path) -> None:
    write(path, path.read_text() * 2)
    file.remove("alice")
    file.remove("bob")
    assert file.users() == []


@pytest.mark.parametrize("salt", [b"", bytes(17), bytes(256)], ids=len)
def test_salt_that_the_format_cannot_keep_is_not_written(file: VerifierFile, salt: bytes) -> None:
    with pytest.raises(CredentialError, match="the salt of 'carol'"):
        file.add(dataclasses.replace(verifier_of("carol"), salt=salt))
    assert file.users() == ["alice", "bob"]


def test_name_that_would_break_the_file_is_not_written(file: VerifierFile) -> None:
    with pytest.raises(ConfigurationError):
        file.add(dataclasses.replace(verifier_of("carol"), user="carol:x\ndave"))
    assert file.users() == ["alice", "bob"]


def test_nobody_is_lost_when_many_add_at_once(file: VerifierFile, path: Path) -> None:
    verifiers = [verifier_of(f"user{number}") for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda verifier: VerifierFile(path).add(verifier), verifiers))
    assert sorted(file.users()) == sorted(["alice", "bob", *(f"user{number}" for number in range(16))])


# The groups


def test_group_that_is_missing_is_added_with_a_free_index(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    conf = path.with_name("tpasswd.conf")
    taken = format_group(4, GROUPS[SMALL].prime, GROUPS[SMALL].generator)
    write(conf, f"{taken}\n")
    file = VerifierFile(path)
    for bits in (SMALL, 3072, 4096):
        file.add(verifier_of(f"u{bits}", "sesame", bits))
    assert [line.partition(":")[0] for line in conf.read_text().splitlines()] == ["4", "5", "6"]
    assert conf.read_text().startswith(f"{taken}\n")
    for bits in (SMALL, 3072, 4096):
        check_password(file.find(f"u{bits}"), "sesame")


# Simulated verifiers


def test_unknown_user_gets_the_same_answer_every_time_and_everywhere(
    file: VerifierFile, path: Path, tmp_path: Path
) -> None:
    shutil.copytree(path.parent, tmp_path / "copy")
    answer = file.lookup("mallory")
    assert answer == file.lookup("mallory")
    assert answer == VerifierFile(tmp_path / "copy" / "tpasswd").lookup("mallory")
    assert answer.user == "mallory"
    others = [file.lookup(name) for name in ("mallory2", "", "mallory:", "\ud800", "x" * 5000, "ali")]
    assert len({answer.salt, *(other.salt for other in others)}) == 7
    assert len({answer.verifier, *(other.verifier for other in others)}) == 7


@given(name=st.text())
def test_any_name_gets_an_answer(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = VerifierFile(tmp_path_factory.getbasetemp() / "any-name" / "tpasswd")
    if not file.path.exists():
        file.add(verifier_of("alice"))
    answer = file.lookup(name)
    assert len(answer.salt) == 16
    assert 0 < answer.verifier < answer.group.prime


def test_missing_seed_is_made_at_the_first_look(file: VerifierFile, path: Path) -> None:
    seed = path.with_name("tpasswd.seed")
    seed.unlink()
    answer = file.lookup("mallory")
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600
    assert answer == VerifierFile(path).lookup("mallory")


def test_processes_that_look_at_once_make_one_seed(file: VerifierFile, path: Path) -> None:
    assert file.users()
    for _ in range(5):
        path.with_name("tpasswd.seed").unlink()
        with ThreadPoolExecutor(8) as pool:
            salts = list(pool.map(lambda _: VerifierFile(path).lookup("mallory").salt, range(8)))
        assert len(set(salts)) == 1


def test_seed_that_cannot_be_beside_the_file_is_in_the_spare_folder(
    file: VerifierFile, path: Path, tmp_path: Path
) -> None:
    check_password(file.find("alice"), "password of alice")
    seed, lock = path.with_name("tpasswd.seed"), path.with_name("tpasswd.lock")
    seed.unlink()
    lock.unlink()
    lock.mkdir()  # even root cannot open a folder for writing
    with pytest.raises(
        CredentialError, match=r"secret .* unknown users is missing and cannot be created: .*lock"
    ):
        file.lookup("alice")
    spare = tmp_path / "state" / "login"
    answer = VerifierFile(path, spare).lookup("mallory")
    assert answer == VerifierFile(path, spare).lookup("mallory")
    assert stat.S_IMODE(spare.stat().st_mode) == 0o700
    assert not seed.exists()
    write(seed, "00" * 32)
    assert VerifierFile(path, spare).lookup("mallory") == file.lookup("mallory") != answer


def test_another_seed_gives_other_answers(file: VerifierFile, path: Path) -> None:
    before = file.lookup("mallory")
    write(path.with_name("tpasswd.seed"), secrets.token_hex(32))
    after = file.lookup("mallory")
    assert after.salt != before.salt
    assert after.verifier != before.verifier


def test_seed_is_made_once(file: VerifierFile, path: Path) -> None:
    seed = path.with_name("tpasswd.seed").read_text()
    assert re.fullmatch(r"[0-9a-f]{64}\n", seed)
    file.add(verifier_of("carol"))
    assert path.with_name("tpasswd.seed").read_text() == seed


@pytest.mark.parametrize("text", ["", "12", "x" * 64, "ab" * 33])
def test_malformed_seed_is_refused(file: VerifierFile, path: Path, text: str) -> None:
    write(path.with_name("tpasswd.seed"), text)
    with pytest.raises(CredentialError, match=r"tpasswd\.seed, line 1: not 32 bytes"):
        file.lookup("alice")


def test_answers_have_groups_and_salt_sizes_in_the_proportion_of_the_users(file: VerifierFile) -> None:
    for number in range(6):
        verifier = verifier_of(f"user{number}", bits=3072)
        file.add(dataclasses.replace(verifier, salt=b"\1" * 12))
    names = [f"mallory{number}" for number in range(1000)]
    before = {name: file.lookup(name) for name in names}
    kinds = Counter((answer.group.bits, len(answer.salt)) for answer in before.values())
    assert set(kinds) == {(SMALL, 16), (3072, 12)}
    assert 0.2 < kinds[SMALL, 16] / len(names) < 0.3
    # Otherwise a name whose kind changes with the number of users would be recognized as simulated.
    file.remove("user0")
    changed = [name for name in names if file.lookup(name) != before[name]]
    assert 0 < len(changed) < 80
    # The same holds for a shorter salt that is the beginning of a longer one.
    assert not any(file.lookup(name).salt.startswith(before[name].salt) for name in changed)


def test_answer_of_an_empty_file_has_the_default_group(file: VerifierFile) -> None:
    file.remove("alice")
    file.remove("bob")
    answer = file.lookup("mallory")
    assert answer.group.bits == DEFAULT_BITS
    assert len(answer.salt) == 16


def test_a_user_who_may_not_log_in_looks_unknown(file: VerifierFile) -> None:
    file.add(verifier_of("dave"))
    unknown = file.lookup("carol")
    assert file.lookup("carol", is_known=False) == unknown
    file.add(verifier_of("carol"))
    assert file.lookup("carol", is_known=False) == unknown != file.lookup("carol")


def test_a_simulated_verifier_says_so(file: VerifierFile) -> None:
    file.add(verifier_of("alice"))
    assert [file.lookup(user).is_simulated for user in ("alice", "unheard-of")] == [False, True]


def test_simulated_salt_is_as_the_documentation_says(file: VerifierFile, path: Path) -> None:
    # Pinned, because a change would reveal all simulated users: only their salts would change.
    write(path.with_name("tpasswd.seed"), "00" * 32)
    key = hashlib.sha256  # HMAC with SHA-256, written out (RFC 2104)
    inner = key(bytes(b ^ 0x36 for b in bytes(64)) + b"salt:16:mallory").digest()
    outer = key(bytes(b ^ 0x5C for b in bytes(64)) + inner).digest()
    assert file.lookup("mallory").salt == hashlib.shake_256(outer).digest(16)
