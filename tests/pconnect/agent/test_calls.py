import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


def test_what_cannot_be_run_has_a_status_and_a_reason(user: Prun, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for words, status, text in [
        (["no-such-program"], 127, b"there is no program no-such-program in "),
        (["ls -l"], 127, b"there is no program 'ls -l'; write separate words: prun ls -l"),
        (["-T", "export"], 127, b"export is a shell command; run: prun sh -c 'export ...'"),
        (["A=1", "ls"], 127, b"A=1 is not a program; set variables with --env A=1"),
        ([str(plain)], 126, b"plain cannot be run: Permission denied"),
        (["--no-such-option", "true"], 125, b"prun --help shows the options"),
        (["--slots", "true"], 125, b"--slots takes no program"),
        (["--nice", "20", "true"], 125, b"'20': a priority can be lowered by 0 to 19"),
        (["-n"], 125, b"name a program to run"),
    ]:
        done = user.run(*words)
        assert (done.returncode, done.stdout) == (status, b"")
        assert done.stderr.startswith(b"prun: ") and text in done.stderr and done.stderr.count(b"\n") == 1


def test_it_never_runs_silently_elsewhere(user: Prun, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone}; rmdir {gone}; exec {SCRIPT} pwd"
    done = subprocess.run(["sh", "-c", script], capture_output=True, env=user.environment, check=False)
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"--cd" in done.stderr
