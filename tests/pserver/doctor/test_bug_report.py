"""The report contains useful facts and no secrets: the tests plant secrets everywhere and look for them in it."""

import getpass
import json
import re
import socket
import stat
from pathlib import Path

import pytest

from pserver.cli import main
from pserver.doctor.bug_report import bug_report
from pserver.system.log_file import default_log
from srp_tools import generate_srp_data
from srp_tools.packages import distribution_version
from srp_tools.private_files import client_file, server_file, server_folder
from tests.support.places import OPTIONS

pytestmark = pytest.mark.usefixtures("places")
PASSWORD = "Zauberwort & Bücherwurm"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Put secrets wherever a report looks, or might look; run a server; return the strings that must not appear."""
    generate_srp_data("marianne", PASSWORD, bits=2048)
    generate_srp_data("otto@example", "another password of otto", bits=2048, client_file=False)
    monkeypatch.setenv("PCONNECT_PASSWORD", "of-the-variable")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("PCONNECT_HOSTS", "crunch17.example.org")
    (server_folder() / "pserver.toml").write_text('allow_users = ["marianne", "otto@example"]\nslots = 3\n')
    (server_folder() / "pserver.toml").chmod(0o600)
    assert main(["start", *OPTIONS, "--shared-account"]) == 0
    log = default_log("default")
    with log.open("a") as lines:
        lines.write(
            '2026-11-28 12:00:00,123 WARNING audit failed-login from 203.0.113.77 port 1 user="typed-my-password" '
            'reason="unknown user or wrong password"\n'
            f"2026-11-28 12:00:00,124 ERROR odd: {PASSWORD} and {json.dumps(PASSWORD)}, of-the-variable\n"
            "2026-11-28 12:00:00,125 INFO login of marianne from 2001:db8::77 network=0123456789abcdef\n"
        )
        lines.write(server_file().read_text())  # as if some program had logged them
    capsys.readouterr()
    seen = {
        PASSWORD,
        json.dumps(PASSWORD)[1:-1],
        "of-the-variable",
        "wJalrXUtnFEMI",
        "crunch17",
        "typed-my-password",
    }
    seen |= {"marianne", "otto@example", "203.0.113.77", "2001:db8::77", "0123456789abcdef"}
    seen |= {getpass.getuser(), socket.gethostname(), str(Path.home())}
    for line in server_file().read_text().splitlines():
        seen |= set(line.split(":")[1:3])
    seen.add(server_file().with_name("tpasswd.seed").read_text().strip())
    return seen


def test_nothing_secret_is_in_it(planted: set[str]) -> None:
    text = bug_report()
    found = [each for each in planted if re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text)]
    assert found == [], text


def test_what_helps_is_in_it(planted: set[str]) -> None:
    text = bug_report()
    assert planted
    for part in (
        f"pserver {distribution_version()}, Python 3.", "== Settings ==", "slots", "pserver.toml, line 2",
        "== Findings of pserver doctor ==", "command port", "open files", "== Servers ==", '"cmd_port": ',
        "PCONNECT_PASSWORD\n", "== Logs ==", "audit failed-login from address-", 'reason="unknown user or wrong',
    ):  # fmt: skip
        assert part in text, text
    assert "ended with" not in text, text
    assert client_file().exists()


def test_the_same_name_is_the_same_word(planted: set[str]) -> None:
    text = bug_report()
    assert planted
    word = re.search(r"INFO login of (user-\d+) from address-\d+ network=id-\d+", text)
    assert word is not None, text
    assert re.search(rf'allow_users +\["{word[1]}", "user-\d+"\]', text), text


def test_it_is_written_to_a_new_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bug-report"]) == 0
    file = tmp_path / "pserver-bug-report.txt"
    assert "== Versions ==" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Read it before you send it" in capsys.readouterr().out
    assert main(["bug-report"]) == 1
    assert "give another name" in capsys.readouterr().err
    assert main(["bug-report", "-"]) == 0
    assert "== Versions ==" in capsys.readouterr().out


def test_a_part_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSERVER_SLOTS", "many")
    text = bug_report()
    assert "(this part failed with ConfigurationError: PSERVER_SLOTS=many" in text
    assert "== Logs ==" in text
