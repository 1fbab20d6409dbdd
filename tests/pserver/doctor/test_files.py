"""The login files in various states."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pconnect.profiles import config_file
from pserver.doctor.checks import Level
from pserver.doctor.files import check_files
from srp_tools import VerifierFile, generate_srp_data


def _intact(_: Path) -> None:
    pass


def _no_client(folder: Path) -> None:
    (folder / "client/credentials").unlink()


def _no_server(folder: Path) -> None:
    (folder / "server/tpasswd").unlink()


def _open_client(folder: Path) -> None:
    (folder / "client/credentials").chmod(0o644)


def _open_server(folder: Path) -> None:
    (folder / "server").chmod(0o755)


def _another_password(folder: Path) -> None:
    generate_srp_data("alice", "another password", bits=2048, folder=folder, client_file=False)


def _another_user(folder: Path) -> None:
    (folder / "server/tpasswd").write_text("")
    generate_srp_data("bob", "another password", bits=2048, folder=folder, client_file=False)


def _no_users(folder: Path) -> None:
    (folder / "server/tpasswd").write_text("")


def _bad_line(folder: Path) -> None:
    with (folder / "server/tpasswd").open("a") as file:
        file.write("nonsense\n")


def _no_groups(folder: Path) -> None:
    (folder / "server/tpasswd.conf").unlink()


@pytest.mark.parametrize(
    ("change", "level", "text", "remedy"),
    [
        (_intact, Level.OK, "the password of alice matches the users' file", ""),
        (_no_client, Level.NOTE, "no client's file", "generate-srp-data"),
        (_no_server, Level.NOTE, "no users' file", "generate-srp-data"),
        (_open_client, Level.WRONG, "client's file", "chmod 600"),
        (_open_server, Level.WRONG, "users' file", "chmod 700"),
        (_another_password, Level.NOTE, "do not match", "generate-srp-data alice"),
        (_another_user, Level.NOTE, "do not match", "generate-srp-data alice"),
        (_no_users, Level.WRONG, "has no users", "generate-srp-data"),
        (_bad_line, Level.WRONG, "tpasswd, line 2", ""),
        (_no_groups, Level.WRONG, "is invalid", "tpasswd.conf"),
    ],
)
def test_what_is_found(
    tmp_path: Path, change: Callable[[Path], None], level: Level, text: str, remedy: str
) -> None:
    generate_srp_data("alice", "a good password", bits=2048, folder=tmp_path)
    change(tmp_path)
    findings = list(check_files(tmp_path))
    found = [each for each in findings if text in each.text and remedy in each.remedy]
    assert [each.level for each in found] == [level], findings
    if level is not Level.WRONG:
        assert all(each.level is not Level.WRONG for each in findings)


def test_the_members_file_is_looked_at_if_there_is_one(tmp_path: Path) -> None:
    def found() -> list[tuple[Level, str]]:
        return [(each.level, each.text) for each in check_files(tmp_path) if "server/member" in each.text]

    generate_srp_data("alice", bits=2048, folder=tmp_path)
    assert found() == []
    generate_srp_data(member=True, bits=2048, folder=tmp_path)
    [(level, text)] = found()
    assert level is Level.OK and "user member+pool, matches" in text
    VerifierFile(tmp_path / "server/tpasswd").remove("member+pool")
    [(level, text)] = found()
    assert level is Level.WRONG and "to join other servers" in text


def test_fingerprints_are_those_of_users_and_seed_and_never_of_the_password(tmp_path: Path) -> None:
    generate_srp_data("alice", "a good password", bits=2048, folder=tmp_path)
    texts = [str(each) for each in check_files(tmp_path)]
    assert "a good password" not in "\n".join(texts)
    marked = [text for text in texts if ", fingerprint " in text]
    assert [text.split(", ")[0].rpartition("/")[2] for text in marked] == ["tpasswd", "tpasswd.seed"]
    assert marked[0].endswith(VerifierFile(tmp_path / "server/tpasswd").fingerprint())
    assert [str(each) for each in check_files(tmp_path)] == texts
    generate_srp_data("alice", "a good password", bits=2048, folder=tmp_path)  # with a different salt
    again = [str(each) for each in check_files(tmp_path) if ", fingerprint " in str(each)]
    assert (again[0] != marked[0], again[1] == marked[1]) == (True, True)


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        ("hosts = ['alpha']", Level.OK, "pconnect.toml, mode 0600"),
        ("hots = 1", Level.WRONG, "did you mean hosts"),
    ],
)
def test_the_configuration_of_the_client(
    text: str, level: Level, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert not any("pconnect.toml" in str(finding) for finding in check_files())
    config_file().parent.mkdir(parents=True)
    config_file().write_text(text)
    config_file().chmod(0o600)
    (found,) = [finding for finding in check_files() if "pconnect.toml" in str(finding)]
    assert found.level is level
    assert words in str(found)
