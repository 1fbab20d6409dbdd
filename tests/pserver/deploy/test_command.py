"""The command: its options, its output and its exit status."""

from pathlib import Path

import pytest

from pserver.cli import main
from srp_tools import generate_srp_data


def test_errors_of_hosts_are_reported_in_order_and_the_status_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ssh = tmp_path / "my ssh"
    ssh.write_text('#!/bin/sh\n[ "$1" = -G ] && { echo hostname x; exit; }\necho nothing; exit 1\n')
    ssh.chmod(0o755)
    users = generate_srp_data("alice", bits=2048, folder=tmp_path).server
    status = main(["deploy", "beta", "alpha", "--ssh", f"'{ssh}' -q", "--auth-file", str(users)])
    out, err = capsys.readouterr()
    assert status == 1
    assert sorted(out.splitlines()) == ["alpha: failed", "beta: failed"]
    assert [line.split(": ")[:2] for line in err.splitlines()] == [["pserver", "beta"], ["pserver", "alpha"]]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--cmd-port", "0"], "port 0 would select a different port"),
        (["--auth-file", "/no/file"], "generate-srp-data"),
        (["--wheels", "/no/folder"], "no such folder"),
        (["--slots", "x"], "invalid"),
        (["--nmae", "x"], "did you mean --name?"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["deploy", "alpha", "--ssh", "/no/ssh", *options])
    except SystemExit as wrong_usage:
        status = int(str(wrong_usage.code))
    assert status
    assert text in capsys.readouterr().err


def test_a_host_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["deploy"])
    assert "HOST" in capsys.readouterr().err
