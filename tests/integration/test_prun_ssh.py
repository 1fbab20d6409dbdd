"""`prun-ssh` instead of ssh: real programs that use a remote shell, each with two servers."""

import filecmp
import os
import select
import subprocess
import termios
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from srp_tools.credentials import Credentials
from tests.support.programs import program
from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

SSH = SCRIPT.with_name("prun-ssh")
# Addresses of this machine, which serve as separate hosts.
FIRST, SECOND = "127.0.0.2", "127.0.0.3"
ODD_NAMES = ["a b", "quote'd", '"', "$HOME", "*", "back\\slash", "new\nline", "-n", "é", "semi;colon"]
RING = r"""
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int rank, size, token = 1;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    printf("rank %d of %d at %s\n", rank, size, getenv("PLACE"));
    fflush(stdout);
    if (rank > 0) {
        MPI_Recv(&token, 1, MPI_INT, rank - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        token *= 2;
    }
    MPI_Send(&token, 1, MPI_INT, (rank + 1) % size, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        MPI_Recv(&token, 1, MPI_INT, size - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        printf("round it came as %d\n", token);
    }
    MPI_Finalize();
    return 0;
}
"""
IN_PLACES = ["rank 0 of 2 at first", "rank 1 of 2 at second", "round it came as 2"]


class User(Prun):
    """A user whose shell finds `prun-ssh`. `homes`: of the accounts on the two servers."""

    homes: list[Path]

    def shell(
        self, line: str, *, data: bytes = b"", status: int = 0, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a line in the user's folder; return its output."""
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            input=data, capture_output=True, check=False, timeout=2 * DEADLINE, cwd=self.folder,
            env=self.environment | dict(env or {}),
        )  # fmt: skip
        assert done.returncode == status, (line, done)
        return done.stdout.decode()

    def ssh(self, *words: str | bytes, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Call `prun-ssh` itself."""
        return subprocess.run(
            [SSH, *words], input=data, capture_output=True, check=False, timeout=DEADLINE,
            cwd=self.folder, env=self.environment,
        )  # fmt: skip


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    """Yield two servers with separate homes, and an environment that names the server."""
    folder = tmp_path_factory.mktemp("ssh-servers")
    with ExitStack() as stack:
        running = []
        for place, address in {"first": FIRST, "second": SECOND}.items():
            (folder / place).mkdir(mode=0o700)
            (folder / place / "home").mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("HOME", str(folder / place / "home"))
                patch.setenv("PLACE", place)
                server = run_server(folder / place, "--slots=4", bind=address, users=users)
                running.append(stack.enter_context(server))
        yield running


@pytest.fixture
def user(tmp_path: Path, servers: list[Server]) -> Iterator[User]:
    folder = tmp_path / "user"
    folder.mkdir()
    with prun_user(folder, servers) as plain:
        kept = plain.environment | {
            "PATH": f"{SSH.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        made = User(kept, folder)
        made.homes = [server.folder / "home" for server in servers]
        yield made


def fill(folder: Path) -> None:
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(ODD_NAMES):
        (folder / name).write_text(f"contents {number}")
    (folder / "below" / "random").write_bytes(os.urandom(3_000_000))
    (folder / "below" / "program").write_text("#!/bin/sh\n")
    (folder / "below" / "program").chmod(0o755)
    (folder / "link").symlink_to("below/random")


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return modes and contents of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if not path.is_dir()
    }


# --- the shell itself ---


def test_a_line_runs_in_the_login_shell_at_home(user: User) -> None:
    done = user.ssh(FIRST, "echo", "$PLACE", "'a  b';", "pwd;", "exit 3")
    assert (done.returncode, done.stdout.decode()) == (3, f"first a  b\n{user.homes[0]}\n")
    done = user.ssh(SECOND, "cat; echo error >&2", data=b"\0\xff")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\0\xff", b"error\n")
    assert user.ssh("-n", SECOND, "wc -c", data=b"not read").stdout.strip() == b"0"
    assert user.ssh(FIRST, data=b"echo from a shell $PLACE\nexit 5\n").returncode == 5


def test_its_environment_is_that_of_the_server(user: User) -> None:
    user.environment |= {"LC_MINE": "here", "SECRET": "x"}
    line = (
        'echo "$LC_MINE,$SECRET,$GIVEN"; test -n "$USER" && test -x "$SHELL" && echo $PATH | grep -q /usr/bin'
    )
    done = user.ssh("-o", "SendEnv=LC_*", "-oSetEnv=GIVEN='a b'", FIRST, line)
    assert (done.returncode, done.stdout) == (0, b"here,,a b\n")


def test_a_terminal_is_there_when_asked_for(user: User) -> None:
    done = user.ssh("-tt", FIRST, "tty; stty size; echo $TERM")
    lines = done.stdout.decode().split("\r\n")
    assert lines[0].startswith("/dev/pts/")
    assert lines[1] == "24 80"
    assert user.ssh("-T", FIRST, "tty").stdout == b"not a tty\n"


def test_without_a_command_it_is_a_shell_on_a_terminal(user: User) -> None:
    ours, theirs = os.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with subprocess.Popen(
            [SSH, SECOND],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=user.environment,
            start_new_session=True,
        ) as process:
            os.write(ours, b"echo $PLACE-$((6 * 7)); tty; exit 9\n")
            shown = b""
            while b"second-42" not in shown or b"/dev/pts/" not in shown:
                assert select.select([ours], [], [], DEADLINE)[0], shown
                shown += os.read(ours, 4096)
            assert process.wait(DEADLINE) == 9
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def test_failures_of_its_own_have_status_255(user: User) -> None:
    done = user.ssh("nosuch", "ls")
    assert done.returncode == 255
    text = done.stderr.decode()
    assert text.startswith(
        "prun-ssh: nosuch: no server in the network has this name; the servers are: 127.0.0.2:"
    )
    done = user.ssh("-l", "nobody-else", FIRST, "ls")
    assert done.returncode == 255
    assert b"cannot switch to nobody-else" in done.stderr
    done = user.ssh("-L", "1:host:2", FIRST)
    assert (done.returncode, done.stderr) == (
        255,
        b"prun-ssh: -L address: prun-ssh forwards no ports or sockets\n",
    )
    assert user.ssh(FIRST, "exit 255").stderr == b""


def test_the_users_own_name_is_no_other_account(user: User) -> None:
    assert user.ssh(f"{user.environment['PCONNECT_USER']}@{FIRST}", "echo ok").stdout == b"ok\n"
    user.ssh(FIRST, "id -un")
    account = user.ssh(FIRST, "id -un").stdout.decode().strip()
    assert user.ssh("-l", account, FIRST, "echo ok").stdout == b"ok\n"


def test_what_others_ask_before_is_answered(user: User) -> None:
    done = user.ssh("-V")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"prun-ssh of pserver ")
    assert b"port 2222\n" in user.ssh("-G", "-p", "2222", FIRST).stdout


def test_a_command_ends_with_its_caller(user: User) -> None:
    mark = user.folder / "mark"
    line = f"echo $$ > {mark}; exec sleep 1000"
    with subprocess.Popen([SSH, FIRST, line], env=user.environment, stdin=subprocess.DEVNULL) as process:
        wait_until(lambda: mark.exists() and mark.read_text().endswith("\n"), "the command to run")
        process.kill()
    wait_gone(int(mark.read_text()))


# --- other programs ---


def test_rsync_in_both_directions(user: User) -> None:
    program("rsync", "rsync")
    there = user.homes[0] / "rsync"
    fill(user.folder / "source")
    user.shell(f"rsync -a -z -e prun-ssh source/ {FIRST}:rsync/")
    assert tree(there) == tree(user.folder / "source")
    (there / "extra").write_text("to be deleted")
    (user.folder / "source" / "quote'd").write_text("changed")
    user.shell(f"rsync -a --checksum --delete -e 'prun-ssh -p 2222 -o BatchMode=yes' source/ {FIRST}:rsync")
    assert tree(there) == tree(user.folder / "source")
    user.shell(f"rsync -a -e prun-ssh {FIRST}:rsync/ back")
    assert tree(user.folder / "back") == tree(user.folder / "source")
    user.shell(f"rsync -a -e prun-ssh {FIRST}:no-such-folder/ back", status=23)


def test_git_clones_fetches_and_pushes(user: User) -> None:
    program("git", "git")
    who = {
        f"GIT_{role}_{what}": text
        for role in ("AUTHOR", "COMMITTER")
        for what, text in (("NAME", "a"), ("EMAIL", "a@b"))
    }
    user.environment |= who | {"GIT_SSH_COMMAND": "prun-ssh"}
    user.shell(f"git init -q --bare -b main {user.homes[0]}/repo.git")
    user.shell(f"git clone -q {FIRST}:repo.git one")
    user.shell(
        "cd one && git checkout -q -b main && head -c 200000 /dev/urandom > 'odd name'"
        " && git add . && git commit -qm one"
    )
    user.shell("cd one && git push -q origin main")
    user.shell(
        f"git clone -q ssh://{user.environment['PCONNECT_USER']}@{FIRST}:2222{user.homes[0]}/repo.git two"
    )
    assert filecmp.cmp(user.folder / "one/odd name", user.folder / "two/odd name", shallow=False)
    user.shell("cd two && git commit -q --allow-empty -m two && git push -q")
    trace = user.shell("cd one && GIT_TRACE_PACKET=1 git fetch -q 2>&1")
    assert "version 2" in trace  # which the server learns from a variable that is sent
    assert user.shell("cd one && git log --format=%s origin/main") == "two\none\n"


def test_tar_through_pipes(user: User) -> None:
    fill(user.folder / "source")
    user.shell(f"tar c source | prun-ssh {SECOND} 'mkdir tar && tar x -C tar'")
    assert tree(user.homes[1] / "tar" / "source") == tree(user.folder / "source")
    user.shell(f"mkdir back && prun-ssh {SECOND} tar c -C tar source | tar x -C back")
    assert tree(user.folder / "back" / "source") == tree(user.folder / "source")


def test_scp_and_sftp(user: User) -> None:
    program("scp", "openssh-client")
    program("/usr/lib/openssh/sftp-server", "openssh-sftp-server")
    (user.folder / "odd name").write_bytes(os.urandom(1_000_000))
    user.shell(f"scp -S prun-ssh 'odd name' {FIRST}:copied && scp -S prun-ssh {FIRST}:copied back")
    assert filecmp.cmp(user.folder / "odd name", user.folder / "back", shallow=False)
    user.shell(f"scp -O -S prun-ssh {FIRST}:copied old")
    assert filecmp.cmp(user.folder / "odd name", user.folder / "old", shallow=False)
    assert "copied" in user.shell(f"echo ls | sftp -q -b - -S prun-ssh {FIRST}")


def test_gnu_parallel_with_files_that_come_and_go(user: User) -> None:
    program("parallel", "parallel")
    program("rsync", "rsync")
    start = f"parallel --will-cite --ssh prun-ssh -S 2/{FIRST},2/{SECOND}"
    shown = user.shell(f"{start} --keep-order 'echo {{}} $PLACE' ::: 'a b' \"c'd\" '$e' f")
    lines = shown.splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["a b", "c'd", "$e", "f"]
    assert {line.rpartition(" ")[2] for line in lines} == {"first", "second"}
    assert user.shell(f"seq 1000 | {start} --pipe -N 250 wc -l").split() == ["250"] * 4
    user.shell(f"{start} 'exit {{}}' ::: 3 0", status=1)
    for name in ("one", "two"):
        (user.folder / name).write_text(name)
    user.shell(
        f"{start} --transferfile {{}} --return {{}}.out --cleanup 'tr a-z A-Z < {{}} > {{}}.out' ::: one two"
    )
    assert [(user.folder / f"{name}.out").read_text() for name in ("one", "two")] == ["ONE", "TWO"]
    assert not any(list(home.glob("one*")) for home in user.homes)


def compiled(user: User, compiler: str, package: str) -> Path:
    """Return an MPI program; skip the test if the compiler or its headers are missing."""
    source = user.folder / "ring.c"
    source.write_text(RING)
    target = user.folder / "ring"
    done = subprocess.run(
        [program(compiler, package), source, "-o", target], capture_output=True, text=True, check=False
    )
    if "mpi.h: No such file" in done.stderr:
        program(f"mpi.h of {compiler}", package)
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.parametrize("launcher", ["prun-ssh", str(SSH)])
def test_open_mpi_hello_and_ring(user: User, launcher: str) -> None:
    program("mpirun.openmpi", "openmpi-bin")
    ring = compiled(user, "mpicc.openmpi", "libopenmpi-dev")
    user.environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    interfaces = "--mca btl self,tcp --mca btl_tcp_if_include lo --mca oob_tcp_if_include lo"
    shown = user.shell(
        f"mpirun.openmpi --mca plm_rsh_agent {launcher} {interfaces} --mca mpi_yield_when_idle 1"
        f" -host {FIRST}:1,{SECOND}:1 -np 2 {ring}"
    )
    assert sorted(shown.splitlines()) == IN_PLACES


def test_hydra_hello_and_ring(user: User) -> None:
    program("mpiexec.hydra", "mpich")
    ring = compiled(user, "mpicc.mpich", "libmpich-dev")
    shown = user.shell(
        f"mpiexec.hydra -iface lo -launcher ssh -launcher-exec {SSH} -hosts {FIRST},{SECOND} -n 2 {ring}"
    )
    assert sorted(shown.splitlines()) == IN_PLACES
