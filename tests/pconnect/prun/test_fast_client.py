import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pconnect.prun import fast_client
from pconnect.shadow import stand_in
from tests.support.prun import FRONTS, SCRIPT, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE


def test_it_imports_only_what_is_built_in() -> None:
    script = "import sys; before = set(sys.modules); import fast_client; print(*set(sys.modules) - before)"
    folder = Path(fast_client.__file__).parent
    found = subprocess.run(
        [sys.executable, "-SI", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert set(found) <= {"fast_client", "_socket", "_signal", "errno", "_imp", "posix"}


def test_agents_are_named_by_what_decides_which_network_is_meant() -> None:
    assert fast_client.agent_name({b"HOME": b"/", b"PCONNECT_PASSWORD": b"secret"}) == "default"
    names = {
        fast_client.agent_name(environment)
        for environment in (
            {b"PCONNECT_HOSTS": b"a"},
            {b"PCONNECT_HOSTS": b"b"},
            {b"PCONNECT_PROFILE": b"a"},
            {b"PCONNECT_HOSTS": b"a", b"PCONNECT_PROFILE": b"a"},
        )
    }
    assert len(names) == 4


def test_the_folder_is_that_of_the_login_or_of_the_account() -> None:
    assert fast_client.agent_folder({b"XDG_RUNTIME_DIR": b"/run/me"}) == b"/run/me/prun"
    assert fast_client.agent_folder({b"XDG_RUNTIME_DIR": b"relative"}) == b"/tmp/prun-%d" % os.geteuid()


def test_a_folder_of_others_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "prun"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "name.sock"))
        listener.listen()
        fast_client.dial(bytes(folder), "name").close()
        folder.chmod(0o755)
        with pytest.raises(fast_client.PrunError, match="other users can access the folder"):
            fast_client.dial(bytes(folder), "name")


def test_an_agent_that_cannot_start_says_why(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server]) as user:
        (tmp_path / "run").chmod(0o700)
        (tmp_path / "run" / "prun").write_text("no folder")
        done = user.run("true")
        assert done.returncode == 125
        assert done.stderr.startswith(b"prun: ") and b"prun" in done.stderr
        (tmp_path / "run" / "prun").unlink()
        done = user.run("true", env={"PRUN_IDLE": "soon"})
        assert (done.returncode, done.stderr) == (
            125,
            b"prun: the agent did not start: PRUN_IDLE='soon' is not a number of seconds, such as PRUN_IDLE=600\n",
        )


def test_it_works_by_a_link_and_as_a_module(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server]) as user:
        link = tmp_path / "link"
        link.symlink_to(SCRIPT)
        for command in ([link], [sys.executable, "-m", "pconnect.prun"]):
            done = run(user, [*command, "sh", "-c", "echo $0; exit 3", "a b"])
            assert (done.returncode, done.stdout) == (3, b"a b\n")


def run(user: Prun, command: list[str | Path]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        command, env=user.environment, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )


def test_what_runs_here_is_the_program_itself(tmp_path: Path, server: Server) -> None:
    with prun_user(tmp_path, [server]) as user:
        user.write_rules('[[rule]]\nmatch = ["*"]\nwhere = "local"\n')
        script = "echo $PPID; cat; yes | head -n 1; exit 9"
        done = user.run("sh", "-c", script, input=b"given\n")
        assert done.returncode == 9
        assert done.stdout.decode().split()[1:] == ["given", "y"]
        assert done.stdout.decode().split()[0] == str(os.getpid())
        assert user.run("no-such-program").returncode == 127
        assert user.run("/etc/passwd").returncode == 126


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"PCONNECT_HOSTS": "alpha beta:4000"},
        {"PCONNECT_HOSTS": "ä\nb", "PCONNECT_PROFILE": "lab", "PCONNECT_USER": "", "XDG_CONFIG_HOME": "/c"},
    ],
)
def test_perl_and_stand_ins_name_the_same_agent(tmp_path: Path, variables: dict[str, str]) -> None:
    name = fast_client.agent_name({os.fsencode(key): os.fsencode(value) for key, value in variables.items()})
    assert stand_in.agent_name(variables) == name
    folder = tmp_path / "prun"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / f"{name}.sock"))
        listener.listen()
        listener.settimeout(DEADLINE)
        environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path), **variables}
        with subprocess.Popen([SCRIPT, "true"], env=environment, stdin=subprocess.DEVNULL) as process:
            caller, _ = listener.accept()
            with caller:
                assert b"prun 1 " in caller.recv(7)
                executable = Path(f"/proc/{process.pid}/exe").readlink().name
                caller.sendall(b"X\0\0\0\1" + b"7")
            assert process.wait() == 7
    assert "perl" in executable or not Path("/usr/bin/perl").exists()


# Variables that a shell may add to an environment.
OF_SHELLS = {"PWD", "OLDPWD", "SHLVL", "_"}


@pytest.mark.parametrize(
    "given", [{"self": "mine", "python": "/opt/x", "LC_CTYPE": "C"}, {"PERL_BADLANG": ""}, {}]
)
@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("name", ["prun", "prun-ssh"])
def test_the_scripts_change_no_variable(
    tmp_path: Path, name: str, is_link: bool, front: str, given: dict[str, str]
) -> None:
    (tmp_path / "prun").mkdir(mode=0o700)
    command = SCRIPT.with_name(name)
    if is_link:
        (tmp_path / "link").symlink_to(command)
        command = tmp_path / "link"
    environment = {
        "PATH": os.environ["PATH"], "PWD": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path), **FRONTS[front], **given,
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "prun" / "default.sock"))
        listener.listen()
        listener.settimeout(DEADLINE)
        words: list[str | Path] = [command, "a host", "a word"]
        with subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, cwd=tmp_path) as process:
            caller, _ = listener.accept()
            with caller, caller.makefile("rb") as request:
                fields = os.fsdecode(request.read(int(request.readline().split()[2]))).split("\0")
                caller.sendall(b"X\0\0\0\1" + b"7")
            assert process.wait() == 7
    own = ["--ssh"] if name == "prun-ssh" else []
    count = int(fields[3])
    assert fields[4 : 4 + count] == [*own, "a host", "a word"]
    received = dict(field.split("=", 1) for field in fields[4 + count :])
    assert {key: received.get(key) for key in environment} == environment
    assert received.keys() - environment.keys() <= OF_SHELLS
