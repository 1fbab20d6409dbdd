"""Exit statuses and error output of commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from srp_tools.cli import main, run_command
from srp_tools.errors import ConfigurationError


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "status", "text"),
    [
        (lambda: 3, 3, ""),
        (raising(KeyboardInterrupt()), 130, "\n"),
        (raising(ConfigurationError("no such thing")), 1, "name: no such thing\n"),
        (raising(PermissionError("not yours")), 1, "name: not yours\n"),
        (raising(BrokenPipeError()), 1, ""),
    ],
)
def test_how_it_ends(
    work: Callable[[], int], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("name", work) == status
    assert capsys.readouterr().err == text


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command("name", raising(ZeroDivisionError()))


COMMANDS = [
    ["srp_tools.cli", "alice", "--random"],
    ["srp_tools.cli", "--help"],
    ["srp_tools.cli", "--version"],
    ["pserver", "--help"],
    ["pserver", "start", "--help"],
    ["pserver", "demo", "--help"],
    ["pserver", "status", "--json"],
]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_of_a_reader_that_has_gone_nothing_is_said(
    command: list[str], unbuffered: str, tmp_path: Path
) -> None:
    module, *arguments = command
    folder = ["--folder", str(tmp_path)] if "alice" in arguments else []
    reader, writer = os.pipe()
    os.close(reader)
    code = f"import sys; from {module if '.' in module else module + '.cli'} import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, *folder],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=os.environ | {"PSERVER_RUNTIME_DIR": str(tmp_path), "PYTHONUNBUFFERED": unbuffered},
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""
    usual = 3 if "status" in command else 0  # no server is running there
    assert done.returncode == usual or (unbuffered and done.returncode == 1)
    assert not folder or (tmp_path / "client").exists()


def test_a_member_is_made_without_a_question_and_removed_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ("--member", "--member lab"):
        assert main(["--folder", str(tmp_path), "--bits=2048", *arguments.split()]) == 0
    assert str(tmp_path / "server" / "member") in capsys.readouterr().out
    assert main(["--folder", str(tmp_path), "--remove", "member+lab"]) == 0
    assert not (tmp_path / "server" / "member").exists()
    assert main(["--folder", str(tmp_path), "--random", "member+lab"]) == 1
    assert "use --member" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--member", "--no-client-file"])
