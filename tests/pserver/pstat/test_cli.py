"""The command with a real server, in a terminal and in a pipe."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pserver.pstat.cli import main
from tests.support.servers import Server
from tests.support.waiting import DEADLINE

COMMAND = [sys.executable, "-c", "import sys; from pserver.pstat.cli import main; sys.exit(main())"]


@pytest.fixture
def variables(asked: Server, tmp_path: Path) -> dict[str, str]:
    folders = dict.fromkeys(("XDG_RUNTIME_DIR", "PSERVER_RUNTIME_DIR"), str(asked.folder))
    return os.environ | folders | {"XDG_CONFIG_HOME": str(tmp_path), "TERM": "xterm"}


def pstat(variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], env=variables, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_a_table_for_people_and_documents_for_programs(asked: Server, variables: dict[str, str]) -> None:
    done = pstat(variables)
    assert done.returncode == 0 and done.stderr == "", done
    head, line = done.stdout.splitlines()
    assert head.startswith("NAME") and "PING AGE" in head and line.startswith(str(asked.status["name"]))
    assert "\x1b" not in done.stdout
    [document] = json.loads(pstat(variables, "--json").stdout)
    assert document["server"]["pid"] == asked.process.pid and document["samples"]["rows"]


def test_the_status_says_whether_all_have_answered(
    asked: Server, variables: dict[str, str], tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text(f"{asked.credentials.user}:{asked.credentials.password}\n")
    password.chmod(0o600)
    with_password = variables | {"PCONNECT_CREDENTIALS": str(password)}
    done = pstat(with_password, asked.host, "127.0.0.1:1")
    assert done.returncode == 1 and "pstat: 127.0.0.1:1: connection refused" in done.stderr
    assert asked.host in done.stdout
    documents = json.loads(pstat(with_password, asked.host, "127.0.0.1:1", "--json").stdout)
    assert documents[0]["totals"]["jobs_done"] == 0 and documents[1]["server"] == {"name": "127.0.0.1:1"}
    nothing = pstat(with_password | dict.fromkeys(("XDG_RUNTIME_DIR", "PSERVER_RUNTIME_DIR"), str(tmp_path)))
    assert nothing.returncode == 3 and nothing.stderr.startswith(
        "pstat: no server of this account is running here"
    )


@pytest.mark.parametrize("words", [["--watch", "0"], ["--watch", "x"], ["--watch", "nan"], ["--wach"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "usage: pstat" in capsys.readouterr().err


def test_the_help_explains_the_columns_and_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert "PING AGE: time since" in text and "130 after Ctrl-C" in text


def test_watching_survives_a_server_that_hangs_and_ends_quietly(
    asked: Server, variables: dict[str, str]
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--watch", "0.2"], env=variables | {"COLUMNS": "100"}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        text = read_until(ours, lambda text: text.count("1 server, 0 of 1 slot busy") >= 2)
        assert "\x1b[3F\x1b[J" in text  # overwrites the previous lines
        os.kill(asked.process.pid, signal.SIGSTOP)
        read_until(ours, lambda text: "does not answer" in text)
        os.kill(asked.process.pid, signal.SIGCONT)
        read_until(ours, lambda text: "open" in text.rpartition("does not answer")[2])
        process.send_signal(signal.SIGINT)
        left = read_until(ours, lambda _: False)
        assert process.wait(DEADLINE) == 130 and "Traceback" not in left
    finally:
        os.kill(asked.process.pid, signal.SIGCONT)
        process.kill()
        process.wait(DEADLINE)
        os.close(ours)


def read_until(terminal: int, is_enough: Callable[[str], bool]) -> str:
    """Return the output as soon as it is enough, or when the other end is closed."""
    data = b""
    deadline = time.monotonic() + DEADLINE
    while not is_enough(data.decode(errors="replace")):
        assert time.monotonic() < deadline, data
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                data += os.read(terminal, 65536)
            except OSError:  # Linux reports a closed other end as EIO
                break
    return data.decode(errors="replace")


def test_in_a_pipe_it_goes_on_until_the_reader_has_gone(variables: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--watch=0.2", "--json"],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    lines = [process.stdout.readline() for _ in range(2)]
    assert all(len(json.loads(line)) == 1 for line in lines)
    process.stdout.close()
    assert process.wait(DEADLINE) == 1 and process.stderr.read() == ""
    process.stderr.close()
