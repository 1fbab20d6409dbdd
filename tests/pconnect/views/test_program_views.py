"""Programs on several nodes."""

import subprocess
from pathlib import Path

import pytest

from pconnect import local_network


def test_each_node_runs_it(tmp_path: Path) -> None:
    with local_network(2) as net:
        done = net.run(["cat"], input="each", cwd="/", text=True)
        assert [(one.node, one.stdout) for one in done] == [(1, "each"), (2, "each")]
        with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
            net.run(["sh", "-c", "exit 3"], cwd="/", check=True)
        with pytest.raises(FileNotFoundError, match=r"to run a program, pass a list: \['ls', '-l'\]"):
            net.run("ls -l")
        (tmp_path / "source.py").write_text("x = sockets.node")
        net.run(tmp_path / "source.py").result()
        assert net.pull("x") == [1, 2]
