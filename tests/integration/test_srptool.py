"""GnuTLS's own program can read our verifier files, and we can read its files."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from srp_tools.errors import AuthenticationError, CredentialError
from srp_tools.srp_groups import DEFAULT_BITS, GROUPS
from srp_tools.verifier import Verifier, check_password, make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.programs import program
from tests.support.servers import run_server
from tests.support.waiting import DEADLINE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server" / "tpasswd"


def verifier_of(user: str, password: str, bits: int = 2048) -> Verifier:
    return make_verifier(Credentials(user, password), bits)


def srptool(path: Path, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    files = ["--passwd", str(path), "--passwd-conf", f"{path}.conf"]
    return subprocess.run(
        [program("srptool", "gnutls-bin"), *arguments, *files],
        input=f"{password}\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def theirs(path: Path) -> VerifierFile:
    """Return a file made by srptool, with one user in each of the groups that it can write."""
    path.parent.mkdir(mode=0o700)
    create = [program("srptool", "gnutls-bin"), "--create-conf", f"{path}.conf"]
    subprocess.run(create, check=True, capture_output=True, timeout=30)
    for index in (2, 3, 4, 5):  # 1536, 2048, 3072 and 4096 bits
        answer = srptool(path, "-u", f"user{index}", "-i", str(index), password=f"pässword {index}")
        assert answer.returncode == 0, answer.stderr
    return VerifierFile(path)


def test_srptool_s_file_is_read(theirs: VerifierFile) -> None:
    assert theirs.users() == ["user2", "user3", "user4", "user5"]
    for index, bits in ((3, 2048), (4, 3072), (5, 4096)):
        verifier = theirs.find(f"user{index}")
        assert verifier.group.bits == bits
        check_password(verifier, f"pässword {index}")
        with pytest.raises(AuthenticationError):
            check_password(verifier, f"password {index}")


@pytest.mark.parametrize("user", ["jürgen", "a b"])
def test_names_that_srptool_takes_can_log_in(
    theirs: VerifierFile, path: Path, tmp_path: Path, user: str
) -> None:
    assert srptool(path, "-u", user, "-i", "3", password="correct horse").returncode == 0
    assert theirs.find(user).group.bits == 2048
    with (
        run_server(tmp_path, users=(Credentials(user, "correct horse"), path)) as server,
        server.connect() as net,
    ):
        assert net[1].eval("1 + 1").result(DEADLINE) == 2


def test_small_group_is_refused_for_its_user_only(theirs: VerifierFile) -> None:
    reason = r"line 1: .*'user2'.* 1536-bit SRP group .*generate-srp-data user2"
    with pytest.raises(CredentialError, match=reason):
        theirs.find("user2")
    (fault,) = theirs.faults()
    assert re.search(reason, fault)
    assert theirs.lookup("user2") == theirs.lookup("user2")
    assert theirs.lookup("user2").group.bits >= 2048
    check_password(theirs.lookup("user3"), "pässword 3")


def test_file_without_a_seed_gets_one(theirs: VerifierFile, path: Path) -> None:
    assert not path.with_name("tpasswd.seed").exists()
    answer = theirs.lookup("mallory")
    assert answer == VerifierFile(path).lookup("mallory")
    assert answer.group.bits in (2048, 3072, 4096)
    assert path.with_name("tpasswd.seed").exists()


def test_only_small_groups_give_an_answer_in_the_default_group(theirs: VerifierFile) -> None:
    for index in (3, 4, 5):
        theirs.remove(f"user{index}")
    assert theirs.lookup("mallory").group.bits == DEFAULT_BITS


def test_both_programs_take_turns(theirs: VerifierFile, path: Path) -> None:
    conf = path.with_name("tpasswd.conf").read_text()
    theirs.add(verifier_of("ours", "sesame"))
    assert path.with_name("tpasswd.conf").read_text() == conf
    answer = srptool(path, "-u", "user3", "-i", "4", password="new")
    assert answer.returncode == 0, answer.stderr
    check_password(theirs.find("user3"), "new")
    assert theirs.find("user3").group.bits == 3072
    assert srptool(path, "--verify", "-u", "ours", password="sesame").returncode == 0
    assert theirs.users() == ["user2", "user3", "user4", "user5", "ours"]


# srptool itself cannot write or check verifiers of 8192 bits: its buffer has 1024 bytes.
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_srptool_verifies_our_file(path: Path, bits: int) -> None:
    VerifierFile(path).add(verifier_of("alice", "sésame öffne dich", bits))
    VerifierFile(path).add(verifier_of("large", "sesame", 8192))
    assert srptool(path, "--verify", "-u", "alice", password="sésame öffne dich").returncode == 0
    assert srptool(path, "--verify", "-u", "alice", password="sesame").returncode != 0


def test_srptool_verifies_salts_and_verifiers_with_zeros_in_front(path: Path) -> None:
    file = VerifierFile(path)
    group = GROUPS[2048]
    number = 0
    for salt in (bytes(16), b"\0\x3f" + bytes(14), b"\0\0\xff" + bytes(13), b"\x40" + bytes(15)):
        inner = hashlib.sha1(b"alice:sesame").digest()
        x = int.from_bytes(hashlib.sha1(salt + inner).digest(), "big")
        file.add(Verifier("alice", salt, group, pow(group.generator, x, group.prime)))
        assert srptool(path, "--verify", "-u", "alice", password="sesame").returncode == 0, salt
    # One verifier in 256 is shorter than the prime: find one.
    while number.bit_length() > group.bits - 8 or not number:
        verifier = verifier_of("alice", "sesame")
        number = verifier.verifier
    file.add(verifier)
    assert srptool(path, "--verify", "-u", "alice", password="sesame").returncode == 0
