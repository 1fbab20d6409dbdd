"""Files that only their owner can access: refusals, and atomic writes."""

import errno
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest

from srp_tools.errors import CredentialError
from srp_tools.private_files import (
    check_private,
    check_unwritable,
    client_file,
    config_folder,
    exclusive_access,
    make_private_folder,
    read_private,
    server_file,
    server_folder,
    write_private,
)


def test_both_parts_are_below_the_configuration_folder(tmp_path: Path) -> None:
    assert config_folder() == platformdirs.user_config_path("pserver", appauthor=False)
    assert client_file() == config_folder() / "client" / "credentials"
    assert server_file() == config_folder() / "server" / "tpasswd"
    assert client_file(tmp_path) == tmp_path / "client" / "credentials"
    assert server_folder(tmp_path) == tmp_path / "server"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Return a private file in a private folder whose name needs quoting in a shell."""
    path = tmp_path / "a folder" / "secret"
    write_private(path, "text\n")
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_written_file_and_folder_are_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    before = os.umask(0)
    try:
        write_private(path, "äöü\n")
    finally:
        os.umask(before)
    assert (mode_of(path), mode_of(path.parent)) == (0o600, 0o700)
    check_private(path)
    assert read_private(path, 100) == "äöü\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_open_file_is_refused_with_the_command_that_fixes_it(private: Path, mode: int) -> None:
    private.chmod(mode)
    with pytest.raises(CredentialError, match=f"mode {mode:04o}") as caught:
        read_private(private, 100)
    command = re.search(r"chmod 600 (.*)", str(caught.value))
    assert command
    subprocess.run(shlex.split(command[0]), check=True)
    check_private(private)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770, 0o711, 0o1777])
def test_open_folder_is_refused_with_the_command_that_fixes_it(private: Path, mode: int) -> None:
    private.parent.chmod(mode)
    with pytest.raises(CredentialError, match=f"mode {mode:04o}") as caught:
        check_private(private)
    with pytest.raises(CredentialError, match="open to others"):
        write_private(private, "new")
    command = re.search(r"chmod 700 [^(]*", str(caught.value))
    assert command
    subprocess.run(shlex.split(command[0]), check=True)
    check_private(private)
    assert private.read_text() == "text\n"


@pytest.mark.parametrize("mode", [0o755, 0o711])
def test_a_folder_that_others_can_list_will_do_for_some_files(private: Path, mode: int) -> None:
    private.parent.chmod(mode)
    write_private(private, "new", others_may_list=True)
    assert (private.read_text(), mode_of(private)) == ("new", 0o600)
    private.chmod(0o644)
    check_unwritable(private)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777, 0o1777])
def test_a_folder_that_others_can_write_will_not(private: Path, mode: int) -> None:
    private.parent.chmod(mode)
    with pytest.raises(CredentialError, match="writable by others"):
        write_private(private, "new", others_may_list=True)
    with pytest.raises(CredentialError, match=f"mode {mode:04o}") as caught:
        check_unwritable(private)
    command = re.search(r"chmod go-w [^(]*", str(caught.value))
    assert command
    subprocess.run(shlex.split(command[0]), check=True)
    check_unwritable(private)


def test_a_file_that_others_can_write_is_refused_though_they_may_read_it(private: Path) -> None:
    private.chmod(0o664)
    with pytest.raises(CredentialError, match=r"the file .* writable by others \(mode 0664\).*chmod go-w"):
        check_unwritable(private)


def test_both_faults_are_reported_together(private: Path) -> None:
    private.chmod(0o644)
    private.parent.chmod(0o755)
    with pytest.raises(CredentialError, match=r"chmod 700 .*chmod 600 "):
        check_private(private)


def test_file_of_somebody_else_is_refused(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(private, 54321, -1)
    else:
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    with pytest.raises(CredentialError, match=r"belongs to another user .* chown"):
        check_private(private)


def test_symbolic_link_is_judged_by_both_folders(private: Path, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir(mode=0o700)
    link = folder / "link"
    link.symlink_to(private)
    assert read_private(link, 100) == "text\n"
    folder.chmod(0o755)
    with pytest.raises(CredentialError, match="links is open"):
        check_private(link)
    folder.chmod(0o700)
    private.parent.chmod(0o755)
    with pytest.raises(CredentialError, match="a folder is open"):
        check_private(link)


def test_writing_through_a_link_replaces_its_target(private: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(private)
    write_private(link, "new\n")
    assert link.is_symlink()
    assert private.read_text() == "new\n"


def test_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match=r"no file .*absent; .*generate-srp-data"):
        read_private(tmp_path / "absent", 100)
    with pytest.raises(FileNotFoundError):
        check_private(tmp_path / "absent")


def test_file_below_a_file_cannot_be_read(private: Path) -> None:
    with pytest.raises(CredentialError, match=os.strerror(errno.ENOTDIR)):
        read_private(private / "below", 100)


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(CredentialError, match="not a regular file"):
        read_private(tmp_path / "pipe", 100)
    with pytest.raises(CredentialError, match="not a regular file"):
        read_private(tmp_path, 100)


def test_a_link_to_itself_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(CredentialError, match=os.strerror(errno.ELOOP)):
        read_private(tmp_path / "link", 100)


def test_size_is_limited(private: Path) -> None:
    assert read_private(private, 5) == "text\n"
    with pytest.raises(CredentialError, match="more than 4 bytes"):
        read_private(private, 4)


def test_text_that_is_not_utf8_is_refused_with_its_line(private: Path) -> None:
    private.write_bytes(b"one\ntwo\nthr\xffe\n")
    with pytest.raises(CredentialError, match=r"secret, line 3: .* not UTF-8"):
        read_private(private, 100)


def test_failed_writing_leaves_the_file_and_nothing_else(private: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_private(private, "\ud800")
    assert [path.name for path in private.parent.iterdir()] == ["secret"]
    assert private.read_text() == "text\n"


def test_place_that_cannot_be_written_is_one_of_our_errors(private: Path) -> None:
    with pytest.raises(CredentialError, match="cannot write"):
        write_private(private / "below" / "file", "text")
    with pytest.raises(CredentialError, match="cannot write"), exclusive_access(private / "below" / "file"):
        pytest.fail("got in")


def test_existing_private_folder_is_taken(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "x")
    make_private_folder(tmp_path / "x")
    assert mode_of(tmp_path / "x") == 0o700


# Reads, then replaces: without the lock, most of the additions would be lost.
_COUNT = """
import sys
from pathlib import Path
from srp_tools.private_files import exclusive_access, read_private, write_private

path = Path(sys.argv[1])
for _ in range(25):
    with exclusive_access(path):
        write_private(path, f"{int(read_private(path, 100)) + 1}")
"""


def test_processes_wait_for_each_other(private: Path) -> None:
    write_private(private, "0")
    processes = [subprocess.Popen([sys.executable, "-c", _COUNT, str(private)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert private.read_text() == "75"
