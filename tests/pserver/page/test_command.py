"""The options of a page, and the command that shows one until Ctrl-C."""

import argparse
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from pserver.config.page_options import Address, add_page_options
from tests.support.waiting import DEADLINE

_SERVE = """
import argparse, sys
from pserver.config.page_options import add_page_options
from pserver.page.command import serve_page
from pserver.page.documents import Report
from srp_tools.cli import run_command
from tests.support.small_documents import TestSource, document
parser = argparse.ArgumentParser()
add_page_options(parser)
options = parser.parse_args(sys.argv[1:])
sys.exit(run_command("pstat", lambda: serve_page(TestSource(Report("alpha", document())), options)))
"""


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_page_options(parser)
    return parser.parse_args(arguments)


def test_options() -> None:
    assert parsed().serve is None
    assert parsed("--serve").serve == Address()
    assert parsed("--serve", "[::1]:80").serve == Address("::1", 80)
    assert parsed("--page-host", "a", "--page-host=b").page_host == ["a", "b"]
    with pytest.raises(SystemExit):
        parsed("--serve", "lab")


def test_a_page_until_ctrl_c(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    file = folder / "token"
    file.touch(0o600)
    file.write_text("0123456789abcdef")
    command = [sys.executable, "-c", _SERVE, "--serve", "127.0.0.1:0", "--token-file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.fullmatch(
            r"The page is at (http://127\.0\.0\.1:\d+/\?token=0123456789abcdef)\n", process.stdout.readline()
        )
        assert found
        with urlopen(found[1], timeout=DEADLINE) as answer:
            assert b"<title>pserver</title>" in answer.read()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130 and "0123456789abcdef" not in errors


def test_an_address_that_others_reach_has_a_warning() -> None:
    command = [sys.executable, "-c", _SERVE, "--serve", "0.0.0.0:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert "http://127.0.0.1:" in process.stdout.readline()
        assert "the connection is not encrypted" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)
