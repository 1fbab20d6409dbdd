"""A real server's answer to an unknown user never changes, and looks like its answer to a known one."""

import socket
import subprocess
from pathlib import Path

from srp_tools.credentials import Credentials
from srp_tools.rules.tpasswd import decode
from srp_tools.verifier_file import VerifierFile
from tests.integration.test_srptool import srptool
from tests.support.hellos import extension, message_of, records_of, vector
from tests.support.programs import program
from tests.support.servers import Server, make_users, run_server
from tests.support.verifiers import verifier_of
from tests.support.waiting import DEADLINE

_SERVER_KEY_EXCHANGE = 12
NOT_UTF8 = b"\xff\xfe"


def answer_to(server: Server, user: bytes) -> tuple[int, bytes]:
    """Return the length of the group's prime, and the salt, that the server sends to a user."""
    extensions = extension(22, b"") + extension(23, b"") + extension(12, vector(1, user))
    with socket.create_connection(("127.0.0.1", server.cmd_port), DEADLINE) as sock:
        sock.sendall(records_of(message_of(extensions)))
        stream = sock.makefile("rb")
        messages = b""
        while True:
            kind, _, _, *size = stream.read(5)
            content = stream.read(int.from_bytes(size, "big"))
            assert kind == 22, content  # no alert
            messages += content
            while len(messages) >= 4 and len(messages) >= (end := 4 + int.from_bytes(messages[1:4], "big")):
                if messages[0] == _SERVER_KEY_EXCHANGE:
                    return parse(messages[4:end])
                messages = messages[end:]


def parse(body: bytes) -> tuple[int, bytes]:
    """Read the beginning of ServerSRPParams (RFC 5054, section 2.5.2): prime, generator, salt."""
    prime_bytes = int.from_bytes(body[:2], "big")
    rest = body[2 + prime_bytes :]
    rest = rest[2 + int.from_bytes(rest[:2], "big") :]
    return prime_bytes, rest[1 : 1 + rest[0]]


def test_answers_to_unknown_users_outlive_the_server(tmp_path: Path) -> None:
    """Even if the secret behind them was not copied with the file, and for names that are not UTF-8."""
    users = make_users(tmp_path / "users")
    users[1].with_name("tpasswd.seed").unlink()
    names = [b"alice", b"mallory", b"trudy", NOT_UTF8]
    found = []
    for number in range(2):
        with run_server(tmp_path / f"server {number}", users=users) as server:
            found += [{name: answer_to(server, name) for name in names} for _ in range(2)]
    assert all(answers == found[0] for answers in found)
    assert len(set(found[0].values())) == len(names)
    assert {(size, len(salt)) for size, salt in found[0].values()} == {(256, 16)}


def test_a_user_of_another_group_or_with_two_lines_looks_like_others(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    # Enough names for both groups to occur among the answers.
    users[1].with_name("tpasswd.seed").write_text("5" * 64 + "\n")
    file = VerifierFile(users[1])
    for user in ("bob", "carol"):
        file.add(verifier_of(user))
    file.add(verifier_of("dora", bits=3072))
    other = VerifierFile(tmp_path / "other" / "tpasswd")
    other.add(verifier_of("carol", "other"))
    users[1].write_bytes(users[1].read_bytes() + other.path.read_bytes())
    strangers = [f"stranger {number}".encode() for number in range(24)]
    with run_server(tmp_path / "server", users=users) as server:
        assert answer_to(server, b"dora")[0] == 384
        twice = answer_to(server, b"carol")
        assert twice == answer_to(server, b"carol")
        assert twice[1] not in (file_salt(line) for line in users[1].read_text().splitlines())
        unknown = [answer_to(server, name) for name in strangers]
        assert unknown == [answer_to(server, name) for name in strangers]
    assert {size for size, _ in unknown} == {256, 384}  # both groups, as for known users
    assert {len(salt) for _, salt in unknown} == {len(twice[1])} == {16}


def file_salt(line: str) -> bytes:
    return decode(line.split(":")[2])


def test_a_file_of_srptool_has_unknown_users_that_look_like_its_own(tmp_path: Path) -> None:
    path = tmp_path / "users" / "tpasswd"
    path.parent.mkdir(mode=0o700)
    create = [program("srptool", "gnutls-bin"), "--create-conf", f"{path}.conf"]
    subprocess.run(create, check=True, capture_output=True, timeout=30)
    assert srptool(path, "-u", "alice", "-i", "3", password="sesame").returncode == 0
    credentials = Credentials("alice", "sesame")
    with run_server(tmp_path / "server", users=(credentials, path)) as server:
        server.connect().close()
        known = answer_to(server, b"alice")
        unknown = answer_to(server, b"mallory")
        assert unknown == answer_to(server, b"mallory") != known
    assert (unknown[0], len(unknown[1])) == (known[0], len(known[1]))
