import re
import subprocess
import sys
from pathlib import Path

import pytest

from pconnect.prun import cli
from pconnect.prun.options import HELP
from tests.support.prun import prun_user
from tests.support.servers import Server


def test_help_and_version_need_no_agent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, server: Server
) -> None:
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == HELP
    with prun_user(tmp_path, [server]) as user:
        assert user.run().stdout.decode() == HELP
        assert re.fullmatch(rb"prun \d+\.\d+\S*\n", user.run("--version").stdout)
        assert not list((tmp_path / "run").iterdir())


def test_the_agent_is_shown_and_ended(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server]) as user:
        done = user.run("--agent", "status")
        assert (done.returncode, done.stdout) == (3, b"no agent is running; the next prun starts one\n")
        user.run("true")
        shown = user.run("--agent", "status").stdout.decode()
        assert re.search(
            rf"node 1 \({re.escape(server.host)}\): \d+ slots\n0 programs are running or waiting", shown
        )
        assert user.run("--agent", "stop").stdout == b"the agent is stopping\n"
        for wrong in (["restart"], []):
            done = user.run("--agent", *wrong)
            assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
            assert done.stderr.startswith(b"prun: --agent takes status or stop")


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_on_another_platform_it_says_so(platform: str) -> None:
    script = (
        f"import runpy, sys; sys.platform = {platform!r}; sys.modules['posix'] = None; "
        "runpy.run_module('pconnect.prun', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"prun is not supported on {platform}: it needs Linux\n"
