"""Programs of a network in one process behave like those of any network."""

import subprocess

import pytest

from pconnect import ConfigurationError, serial
from pconnect.programs.completed import ProgramTimeoutError


def test_each_node_runs_it() -> None:
    with serial(2) as net:
        done = net.run(
            ["sh", "-c", "cat; pwd; echo $A >&2; exit 3"], input="x\n", cwd="/", env={"A": "a"}, text=True
        )
        assert [(one.node, one.host, one.returncode, one.stdout, one.stderr) for one in done] == [
            (node, "this process", 3, "x\n/\n", "a\n") for node in (1, 2)
        ]
        assert net[1].run(["true"]).stdout == b""
        with pytest.raises(subprocess.CalledProcessError):
            net.run(["false"], check=True)
        with pytest.raises(FileNotFoundError):
            net.run(["no-such-program"])
        with pytest.raises(ProgramTimeoutError, match=r"sh timed out after 0.5 s \(time limit\)") as caught:
            net[1].run(["sh", "-c", "echo a; exec sleep 100"], time_limit=0.5)
        assert caught.value.stdout == b"a\n"
        with pytest.raises(ConfigurationError, match=r"subprocess\.Popen"):
            net[1].popen(["true"])
