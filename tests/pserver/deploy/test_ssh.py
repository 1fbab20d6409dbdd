"""Calls with a program in place of ssh; `tests/integration/test_deploy` uses real ssh servers."""

import os
import sys
import time
from pathlib import Path

import pytest

from pserver.deploy.ssh import DeployError, Ssh, Target
from tests.support.login_shells import SHELLS, make_ssh

LOOK = {"do": "look", "name": "default"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a PATH in which python3 is the Python of the tests."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin/python3").chmod(0o755)
    return f"{tmp_path}/bin:/usr/bin:/bin"


def saying(folder: Path, script: str) -> Ssh:
    """Return an ssh that only runs this script."""
    (folder / "ssh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ssh").chmod(0o755)
    return Ssh([str(folder / "ssh")])


@pytest.mark.parametrize("shell", SHELLS)
def test_a_host_answers_whatever_its_login_shell_is_and_prints(tmp_path: Path, path: str, shell: str) -> None:
    ssh = Ssh([str(make_ssh(tmp_path, shell, path))])
    done = ssh.call(Target("alpha", "python3"), LOOK, timeout=30)
    assert (done["python"], done["environments"], done["status"]) == (sys.executable, [], None)


@pytest.mark.parametrize("shell", SHELLS)
def test_setup_is_done_in_a_shell_as_after_a_login(tmp_path: Path, path: str, shell: str) -> None:
    (tmp_path / ".bash_profile").write_text(
        "echo Hello; read -r answer; module() { [ $1 = load ] && PATH=$HOME/modules/$2:$PATH; }\n"
    )
    (tmp_path / "modules/new python").mkdir(parents=True)
    (tmp_path / "modules/new python/py").symlink_to(tmp_path / "bin/python3")
    ssh = Ssh([str(make_ssh(tmp_path, shell, path))])
    target = Target("alpha", "py", "module load 'new python' && export WHERE=\"it's\"\n# done")
    assert ssh.call(target, LOOK, timeout=30)["python"] == sys.executable
    with pytest.raises(DeployError, match=r"--setup failed with status 1: .*no such module"):
        ssh.call(Target("alpha", "py", "echo no such module >&2; module unload x"), LOOK, timeout=30)


def test_a_python_that_cannot_be_used_is_reported(tmp_path: Path, path: str) -> None:
    ssh = Ssh([str(make_ssh(tmp_path, "sh", path))])
    with pytest.raises(DeployError, match=r"/no/python cannot be run, .* --python alpha=PATH"):
        ssh.call(Target("alpha", "/no/python"), LOOK, timeout=30)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("Host key verification failed.", "accept its key"),
        ("alice@alpha: Permission denied (publickey,password).", "ssh-copy-id alpha"),
        ("ssh: Could not resolve hostname alpha: Name or service not known", "correct the name"),
        ("ssh: connect to host alpha port 22: Connection refused", "start one"),
        ("ssh: connect to host alpha port 22: Connection timed out", "firewall"),
        ("something else", "try ssh alpha"),
    ],
)
def test_an_error_of_ssh_has_what_to_do(tmp_path: Path, said: str, hint: str) -> None:
    with pytest.raises(DeployError) as error:
        saying(tmp_path, f"echo '{said}' >&2; exit 255").call(Target("alpha"), LOOK, timeout=30)
    assert said.removeprefix("ssh: ") in str(error.value)
    assert hint in str(error.value)


def test_a_shell_that_does_something_else_comes_with_what_it_printed(tmp_path: Path) -> None:
    ssh = saying(tmp_path, "echo This account is not available; exit 1")
    with pytest.raises(DeployError, match=r"status 1; it printed: This account is not available\)"):
        ssh.call(Target("alpha"), LOOK, timeout=30)


def test_a_host_that_does_not_answer_ends_at_the_limit(tmp_path: Path) -> None:
    ssh = saying(tmp_path, "echo $$ > pid; exec sleep 60".replace("pid", str(tmp_path / "pid")))
    began = time.monotonic()
    with pytest.raises(DeployError, match=r"timed out after 0\.5 s"):
        ssh.call(Target("alpha"), LOOK, timeout=0.5)
    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_host_that_prints_without_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="a line of more than"):
        saying(tmp_path, "exec cat /dev/zero").call(Target("alpha"), LOOK, timeout=30)


def test_an_answer_without_its_mark_is_none_of_ours(tmp_path: Path) -> None:
    ssh = saying(tmp_path, """echo '@0@{"done": {}}'; exit 3""")
    with pytest.raises(DeployError, match="status 3"):
        ssh.call(Target("alpha"), LOOK, timeout=30)


def test_the_address_is_that_of_the_configuration(tmp_path: Path) -> None:
    assert saying(tmp_path, "echo user x; echo hostname alpha.example").address_of("alpha") == "alpha.example"
    with pytest.raises(DeployError, match="ssh -G: Bad configuration"):
        saying(tmp_path, "echo Bad configuration >&2; exit 255").address_of("alpha")
    with pytest.raises(DeployError, match="install the OpenSSH client"):
        Ssh(["/no/ssh"]).address_of("alpha")
