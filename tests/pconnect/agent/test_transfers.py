from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prun import Prun, prun_user
from tests.support.servers import Server


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


def test_files_are_sent_and_fetched(user: Prun, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "run.sh").write_text("#!/bin/sh\npwd; cat deep/in; echo made > deep/out; ls\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "deep" / "in").write_text("given\n")
    (tmp_path / "other").write_text("not sent")
    done = user.run("--send", "run.sh", "--send", "deep/in", "--fetch", "deep/out", "./run.sh", cwd=tmp_path)
    folder, *lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr, lines) == (0, b"", ["given", "deep", "run.sh"])
    assert (tmp_path / "deep" / "out").read_text() == "made\n"
    assert folder != str(tmp_path) and not Path(folder).exists()


def test_a_folder_goes_and_comes_back(user: Prun, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    for number in (2, 3):
        done = user.run("--sync", "sh", "-c", f"echo {number} >> a; pwd", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode().strip() != str(tmp_path)
    assert (tmp_path / "a").read_text() == "1\n2\n3\n"


def test_what_is_not_there_is_an_error(user: Prun, tmp_path: Path) -> None:
    for words, text in [
        (["--send", "missing", "true"], b"missing"),
        (["--send", "/etc/passwd", "true"], b"/etc/passwd: name files below the current folder"),
        (["--fetch", "../up", "true"], b"../up: name files below the current folder"),
        (["--fetch", "not-made", "true"], b"not-made"),
    ]:
        done = user.run(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (125, b"")
        assert text in done.stderr
