"""The command as an administrator or a script uses it."""

import io
import os
import pty
import re
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from srp_tools.cli import main
from srp_tools.credentials import Credentials, load_credentials, save_credentials
from srp_tools.private_files import client_file, server_file
from srp_tools.verifier import check_password
from srp_tools.verifier_file import VerifierFile

COMMAND = [sys.executable, "-m", "srp_tools.cli"]


@dataclass
class Answer:
    status: int
    out: str
    err: str


@dataclass
class Command:
    """The command with its own configuration folder, run in this process without a terminal."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, given: bytes = b"") -> Answer:
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        try:
            status = main(["--folder", str(self.folder), *arguments])
        except SystemExit as wrong_usage:
            status = int(str(wrong_usage.code))
        return Answer(status, *self.capsys.readouterr())

    @property
    def client(self) -> Path:
        return client_file(self.folder)

    @property
    def verifiers(self) -> VerifierFile:
        return VerifierFile(server_file(self.folder))

    def check_parts_fit(self, user: str) -> str:
        """Check that both files exist and match, and return the password."""
        password = load_credentials(self.client, user).password
        check_password(self.verifiers.find(user), password)
        return password


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("option", ["--random", "--unattended"])
def test_random_password_is_long_fresh_and_not_shown(command: Command, option: str) -> None:
    passwords = set()
    for _ in range(2):
        answer = command("alice", option, "--bits", "2048")
        assert (answer.status, answer.err) == (0, "")
        password = command.check_parts_fit("alice")
        assert password not in answer.out
        passwords.add(password)
    assert len(passwords) == 2
    # 6 bits each: more than 128 bits.
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", password) for password in passwords)
    assert command.verifiers.users() == ["alice"]


def test_output_says_where_the_parts_are_and_what_to_copy(command: Command) -> None:
    answer = command("alice", "--unattended", "--bits", "2048")
    assert "user alice (2048-bit group)" in answer.out
    assert str(command.client) in answer.out
    assert str(command.verifiers.path) in answer.out
    assert f"pserver deploy HOST... --auth-file {command.verifiers.path}\n" in answer.out
    # The folder is outside of the home.
    assert f"scp -rp {command.folder}/server HOST:{command.folder}/" in answer.out


@pytest.mark.parametrize(
    "given", [b"p:\xc3\xa4 ssss", b"p:\xc3\xa4 ssss\n", b"p:\xc3\xa4 ssss\r\n", b"p:a\xcc\x88 ssss\n"]
)
def test_password_from_standard_input_is_one_line(command: Command, given: bytes) -> None:
    assert command("alice", "--password-stdin", given=given).status == 0
    assert command.check_parts_fit("alice") == "p:ä ssss"
    assert command.verifiers.find("alice").group.bits == 3072


def test_a_weak_password_is_taken_and_warned_of(command: Command) -> None:
    answer = command("alice", "--password-stdin", "--bits", "2048", given=b"eightsix\n")
    assert answer.status == 0
    assert re.fullmatch(
        "generate-srp-data: warning: the password is easily guessed, "
        "because it has only 8 characters: choose at least .*\n",
        answer.err,
    )
    assert command.check_parts_fit("alice") == "eightsix"
    assert command("a", "--password-stdin", "--bits", "2048", given=b"correct horse\n").err == ""
    assert command("a", "--random", "--bits", "2048").err == ""


def test_a_hopeless_password_is_taken_only_with_an_option(command: Command) -> None:
    refused = command("alice", "--password-stdin", "--bits", "2048", given=b"sixsix\n")
    assert (refused.status, list(command.folder.iterdir())) == (1, [])
    assert "it has only 6 characters, and anyone who gets the servers' file" in refused.err
    assert "--allow-weak" in refused.err
    assert "sixsix" not in refused.err
    taken = command("alice", "--password-stdin", "--allow-weak", "--bits", "2048", given=b"sixsix\n")
    assert (taken.status, taken.err.count("warning")) == (0, 1)
    assert command.check_parts_fit("alice") == "sixsix"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"\xff\n", "UTF-8"),
        (b"a\tb\n", "control character"),
        (b"x" * 70_000, "65536"),
        (b"one\ntwo\n", "more than one line"),
        (b"one\ntwo", "more than one line"),
        (b"one\n\n", "more than one line"),
    ],
)
def test_bad_password_from_standard_input_is_refused(command: Command, given: bytes, reason: str) -> None:
    answer = command("alice", "--password-stdin", given=given)
    assert (answer.status, answer.out) == (1, "")
    assert re.fullmatch(f"generate-srp-data: .*{reason}.*\n", answer.err)
    assert list(command.folder.iterdir()) == []


def test_standard_input_that_is_closed_is_an_empty_password(command: Command) -> None:
    run = f"exec {sys.executable} -m srp_tools.cli --folder {command.folder} alice --password-stdin <&-"
    answer = subprocess.run(["/bin/sh", "-c", run], capture_output=True, text=True, timeout=30, check=False)
    assert (answer.returncode, answer.stderr) == (1, "generate-srp-data: an empty password cannot be used\n")


def test_without_a_terminal_it_says_so_instead_of_waiting(command: Command) -> None:
    command("alice", "--unattended")
    for arguments in (["bob"], ["--verify", "alice"]):
        answer = command(*arguments)
        assert answer.status == 1
        assert "not a terminal" in answer.err
        assert "--unattended" in answer.err
        assert "--password-stdin" in answer.err
    assert command.verifiers.users() == ["alice"]


def test_default_user_is_the_account_s(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert command("--unattended").status == 0
    command.check_parts_fit("somebody")


def test_account_without_a_name_is_an_error(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    answer = command("--unattended")
    assert (answer.status, answer.err) == (
        1,
        "generate-srp-data: this account has no name; give a user name\n",
    )


def test_default_folder_is_the_users_configuration(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(command.folder))
    assert main(["alice", "--unattended"]) == 0
    assert load_credentials().user == "alice"
    assert VerifierFile(server_file()).users() == ["alice"]


def test_client_file_is_not_written_where_not_wanted(command: Command) -> None:
    answer = command("alice", "--password-stdin", "--no-client-file", given=b"open sesame\n")
    assert answer.status == 0
    assert not command.client.parent.exists()
    assert str(command.client) not in answer.out
    check_password(command.verifiers.find("alice"), "open sesame")


def test_it_says_when_a_user_is_replaced(command: Command) -> None:
    first, second = command("alice", "--random"), command("alice", "--random")
    assert first.out.startswith("Created user alice (") and "old file" not in first.out
    assert second.out.startswith("Replaced user alice (")
    assert "Servers with the old file refuse the new password. Copy the new file to them." in second.out
    assert command("bob", "--random").out.startswith("Created user bob (")


def test_list_has_one_user_a_line(command: Command) -> None:
    for user in ("bob", "alice"):
        command(user, "--unattended", "--bits", "2048")
    assert command("--list") == Answer(0, "bob\nalice\n", "")


def test_verify_tells_right_from_wrong(command: Command) -> None:
    command("alice", "--password-stdin", given=b"open sesame\n")
    right = command("--verify", "alice", "--password-stdin", given=b"open sesame\n")
    assert right == Answer(0, "The password of alice is correct.\n", "")
    for wrong in (b"Sesame\n", b"\n"):
        answer = command("--verify", "alice", "--password-stdin", given=wrong)
        assert answer == Answer(1, "", "generate-srp-data: wrong password for 'alice'\n")
    answer = command("--verify", "bob", "--password-stdin", given=b"open sesame\n")
    assert (answer.status, answer.out) == (1, "")
    assert "there is no user 'bob'" in answer.err


def test_remove_takes_the_user_from_both_parts(command: Command) -> None:
    for user in ("bob", "alice"):
        command(user, "--unattended", "--bits", "2048")
    assert command("--remove", "bob").status == 0
    assert command.verifiers.users() == ["alice"]
    command.check_parts_fit("alice")
    answer = command("--remove", "alice")
    assert answer.status == 0
    assert str(command.client) in answer.out
    assert command.verifiers.users() == []
    assert not command.client.exists()


def test_remove_is_content_with_the_client_s_part(command: Command) -> None:
    command("alice", "--unattended", "--bits", "2048")
    save_credentials(Credentials("bob", "open sesame"), command.client)
    assert command("--remove", "bob").status == 0
    assert not command.client.exists()
    assert command.verifiers.users() == ["alice"]
    save_credentials(Credentials("bob", "open sesame"), command.client)
    command.verifiers.path.unlink()
    assert command("--remove", "bob").status == 0


def test_remove_of_an_unknown_user_is_an_error(command: Command) -> None:
    command("alice", "--unattended", "--bits", "2048")
    answer = command("--remove", "ali")
    assert (answer.status, answer.out) == (1, "")
    assert "there is no user 'ali'" in answer.err
    command.check_parts_fit("alice")


@pytest.mark.parametrize(
    "arguments",
    [
        *("--list alice", "--list --bits 2048", "--remove a --random", "--remove a --password-stdin"),
        *("--list --verify a", "--verify a b", "--verify a --no-client-file", "--random --password-stdin"),
        *("--random --no-client-file", "--bits 1024", "--bits many", "--password=open sesame", "--pass"),
        *("alice bob", "--remove"),
    ],
)
def test_wrong_usage_has_status_2(command: Command, arguments: str) -> None:
    answer = command(*arguments.split())
    assert (answer.status, answer.out) == (2, "")
    assert "usage: generate-srp-data" in answer.err
    assert list(command.folder.iterdir()) == []


def test_bad_user_name_is_refused_before_anything_is_asked(command: Command) -> None:
    answer = command("al:ice")
    assert answer.status == 1
    assert "generate-srp-data: the user name 'al:ice' cannot be used" in answer.err


def test_open_folder_is_reported_with_the_command_that_fixes_it(command: Command) -> None:
    command("alice", "--unattended", "--bits", "2048")
    command.verifiers.path.parent.chmod(0o755)
    answer = command("--list")
    assert (answer.status, answer.out) == (1, "")
    assert f"chmod 700 {command.verifiers.path.parent}" in answer.err


def test_client_file_that_cannot_be_written_is_an_error(command: Command) -> None:
    command.client.parent.mkdir(mode=0o755)
    command.client.parent.chmod(0o755)
    answer = command("alice", "--unattended", "--bits", "2048")
    assert answer.status == 1
    assert "the servers' file is written, but not the client's" in answer.err
    assert "chmod 700" in answer.err
    assert command.verifiers.users() == ["alice"]


def test_lines_that_cannot_be_used_are_shown_and_kept(command: Command) -> None:
    command("alice", "--unattended", "--bits", "2048")
    path = command.verifiers.path
    path.write_text(f"bob\n{path.read_text()}")
    warning = f"generate-srp-data: warning: {path}, line 1: the line does not have the form user:verifier:salt:index\n"
    assert command("--list") == Answer(0, "alice\n", warning)
    answer = command(
        "carol", "--password-stdin", "--bits", "2048", "--no-client-file", given=b"correct horse\n"
    )
    assert (answer.status, answer.err) == (0, warning)
    assert path.read_text().startswith("bob\nalice:")
    assert command("--remove", "bob").err == ""


# At a terminal.


class Terminal:
    """The command at a pseudo-terminal, in a separate process."""

    def __init__(self, *arguments: str) -> None:
        self.seen = ""
        self.process, self.descriptor = pty.fork()
        if self.process == 0:  # the child process, with the terminal as its standard streams
            os.execv(COMMAND[0], [*COMMAND, *arguments])

    def expect(self, text: str) -> None:
        """Wait until the output ends with `text`."""
        while not self.seen.endswith(text):
            ready, _, _ = select.select([self.descriptor], [], [], 30)
            assert ready, f"{text!r} did not come, only {self.seen!r}"
            self.seen += os.read(self.descriptor, 1000).decode()

    def type(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def wait(self) -> int:
        """Read to the end and return the exit status."""
        try:
            while data := os.read(self.descriptor, 1000):
                self.seen += data.decode()
        except OSError:
            pass  #  Linux reports this way that nothing uses the terminal any more
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


def test_password_is_asked_twice_and_not_echoed(command: Command) -> None:
    terminal = Terminal("--folder", str(command.folder), "alice")
    terminal.expect("New password for alice (empty: make a random one): ")
    terminal.type("öffne dich\n")
    terminal.expect("Repeat the password: ")
    terminal.type("öffne dich\n")
    assert terminal.wait() == 0, terminal.seen
    assert "dich" not in terminal.seen
    assert command.check_parts_fit("alice") == "öffne dich"

    terminal = Terminal("--folder", str(command.folder), "--verify", "alice")
    terminal.expect("Password of alice: ")
    terminal.type("öffne dich\n")
    assert terminal.wait() == 0, terminal.seen


def test_different_answers_write_nothing(command: Command) -> None:
    terminal = Terminal("--folder", str(command.folder), "alice")
    terminal.expect("one): ")
    terminal.type("open sesame\n")
    terminal.expect("Repeat the password: ")
    terminal.type("Sesame\n")
    assert terminal.wait() == 1
    assert "generate-srp-data: the two passwords differ" in terminal.seen
    assert list(command.folder.iterdir()) == []


def test_empty_answer_makes_a_random_password(command: Command) -> None:
    terminal = Terminal("--folder", str(command.folder), "alice")
    terminal.expect("one): ")
    terminal.type("\n")
    assert terminal.wait() == 0, terminal.seen
    assert len(command.check_parts_fit("alice")) >= 22


def test_without_a_client_file_an_empty_answer_is_refused(command: Command) -> None:
    terminal = Terminal("--folder", str(command.folder), "alice", "--no-client-file")
    terminal.expect("New password for alice: ")
    terminal.type("\n")
    terminal.expect("Repeat the password: ")
    terminal.type("\n")
    assert terminal.wait() == 1
    assert "an empty password cannot be used" in terminal.seen


@pytest.mark.parametrize(("keys", "status"), [("\x03", 130), ("\x04", 1)], ids=["Ctrl-C", "Ctrl-D"])
def test_giving_up_writes_nothing(command: Command, keys: str, status: int) -> None:
    terminal = Terminal("--folder", str(command.folder), "alice")
    terminal.expect("one): ")
    terminal.type(keys)
    assert terminal.wait() == status
    assert "Traceback" not in terminal.seen
    assert list(command.folder.iterdir()) == []
