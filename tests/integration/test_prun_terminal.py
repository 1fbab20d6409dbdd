"""`prun` at a terminal, as a shell's user sees it: full-screen programs, keys, sizes, job control."""

import os
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.programs import program
from tests.support.prun import SCRIPT, Prun, prun_user
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, TRIES, wait_gone

PROMPT = "here> "


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prun]:
    with prun_user(tmp_path_factory.mktemp("prun"), [server]) as user:
        yield user


class Shell:
    """A shell at a pseudo-terminal, with `prun` on its PATH."""

    def __init__(self, user: Prun) -> None:
        kept = {name: value for name, value in user.environment.items() if name != "PROMPT_COMMAND"}
        path = f"{SCRIPT.parent}:{kept['PATH']}"
        self.child = pexpect.spawn(
            "bash",
            ["--norc", "--noediting", "-i"],
            env=kept | {"PS1": PROMPT, "TERM": "xterm", "PATH": path},
            cwd=str(user.folder),
            timeout=DEADLINE,
            encoding="utf-8",
            dimensions=(24, 80),
        )
        self.child.expect_exact(PROMPT)
        self.run("stty -echo")

    def begin(self, line: str, *words: str) -> None:
        """Type a line and wait for some words in the output."""
        self.child.sendline(line)
        for word in words:
            self.child.expect_exact(word)

    def run(self, line: str) -> str:
        """Type a line; return the output up to the next prompt, with plain line ends."""
        self.child.sendline(line)
        return self.rest()

    def rest(self) -> str:
        self.child.expect_exact(PROMPT)
        return str(self.child.before).replace("\r\n", "\n")


@pytest.fixture
def shell(user: Prun) -> Iterator[Shell]:
    made = Shell(user)
    yield made
    made.child.close(force=True)


def test_it_has_a_terminal_if_there_is_one_here(shell: Shell) -> None:
    assert shell.run("prun sh -c 'test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM'") == (
        "24 80\nxterm\n"
    )
    assert shell.run("prun -T sh -c 'test -t 1 || echo none'") == "none\n"
    assert shell.run("prun sh -c 'test -t 1 || echo none' | cat") == "none\n"
    assert shell.run("prun -t sh -c 'test -t 1 && echo one' < /dev/null | cat").strip() == "one"
    assert "icanon" in shell.run("stty -a").replace("-icanon", "")  # its settings are unchanged


def test_a_shell_there_has_jobs_and_sees_new_sizes(shell: Shell) -> None:
    shell.begin("prun -t env PS1='remote> ' bash --norc --noediting -i", "remote> ")
    shell.begin("stty -echo", "remote> ")
    shell.begin("sh -c 'echo begun; exec sleep 1000'", "begun")  # the key stops the program that says it
    shell.child.sendcontrol("z")
    shell.begin("", "Stopped", "remote> ")
    shell.begin("jobs; echo l''ist", "sleep 1000", "list", "remote> ")
    shell.begin("fg; echo st''atus=$?", "sleep 1000")
    shell.child.sendcontrol("c")
    shell.child.expect_exact("remote> ")
    shell.child.setwinsize(40, 100)
    shell.begin("until [ \"$(stty size)\" = '40 100' ]; do sleep 0.05; done; echo res''ized", "resized")
    assert "exit" in shell.run("exit 5")
    assert shell.run("echo $?") == "5\n"


@pytest.mark.parametrize("option", ["-t", "-T"])
def test_ctrl_c_ends_the_program_and_the_loop_around_it(shell: Shell, option: str) -> None:
    line = f"for i in 1 2; do prun {option} sh -c 'echo begun; exec sleep 1000'; done; echo loo''ped"
    shell.begin(line, "begun")
    shell.child.sendcontrol("c")
    assert "looped" not in shell.rest()
    assert shell.run("echo $?") == "130\n"


def test_a_program_may_make_something_else_of_ctrl_c(shell: Shell) -> None:
    for option in ("-t", "-T"):
        shell.begin(
            f"""prun {option} sh -c 'trap "echo caught; exit 3" INT; echo begun; while :; do sleep 0.1; done'""",
            "begun",
        )
        shell.child.sendcontrol("c")
        shell.child.expect_exact("caught")
        shell.rest()
        assert shell.run("echo $?") == "3\n"


def test_the_third_ctrl_c_is_not_the_programs(shell: Shell) -> None:
    shell.begin(
        "prun -T sh -c 'trap \"echo ca''ught\" INT; echo begun; while :; do sleep 0.1; done'", "begun"
    )
    for _ in range(2):
        shell.child.sendcontrol("c")
        shell.child.expect_exact("caught")
    shell.child.sendcontrol("c")
    shell.rest()
    shell.begin("echo status=$?", "status=130")  # perhaps after the program's output for the third one
    shell.rest()


def test_ctrl_z_stops_one_without_a_terminal_of_its_own(shell: Shell) -> None:
    shell.begin("prun -T sh -c 'echo begun; read line; echo got $line'", "begun")
    shell.child.sendcontrol("z")
    assert "Stopped" in shell.rest()
    shell.begin("fg", "prun")
    shell.begin("text", "got text")
    shell.rest()


def test_full_screens(shell: Shell, tmp_path: Path) -> None:
    shell.begin("prun -t top -d 1", "load average")
    shell.child.send("q")
    shell.rest()
    (tmp_path / "lines").write_text("".join(f"line {number}\n" for number in range(1000)))
    shell.begin(f"prun less {tmp_path}/lines", "line 20")
    shell.child.send("G")
    shell.child.expect_exact("line 999")
    shell.child.send("q")
    shell.rest()
    assert shell.run("echo $?") == "0\n"


def test_what_is_typed_reaches_it_and_its_end_too(shell: Shell, tmp_path: Path) -> None:
    shell.begin(f"prun sh -c 'echo begun >&2; cat' > {tmp_path}/written", "begun")
    shell.child.sendline("typed")
    shell.child.sendcontrol("d")
    shell.rest()
    assert (tmp_path / "written").read_text() == "typed\n"
    shell.begin("""prun sh -c 'stty -echo; echo begun; read -r word; echo "got ${#word}"'""", "begun")
    shell.begin("secret", "got 6")
    assert "secret" not in shell.rest()


def test_in_the_background_it_runs_on_and_reads_nothing(shell: Shell, tmp_path: Path) -> None:
    """The shell gets the keys typed afterwards."""
    os.mkfifo(tmp_path / "gate")
    shell.run("set -b")
    assert "[1]" in shell.run(f"prun sh -c 'cat {tmp_path}/gate; test -t 1; exit 4$?' &")
    for _ in range(3):
        assert shell.run("echo still here") == "still here\n"
    assert "Running" in shell.run("jobs")
    shell.run(f"echo > {tmp_path}/gate")
    # By its number: the shell forgets a job once it has reported its end. 1: it did not get a terminal.
    assert "looped 41" in shell.run("wait $!; echo looped $?")
    shell.run("prun cat &")
    assert "Running" in shell.run("jobs")
    shell.begin("fg", "prun cat")
    shell.begin("typed", "typed")
    shell.child.sendcontrol("d")
    shell.rest()


def test_what_is_typed_ahead_is_not_for_a_compile_step(user: Prun, shell: Shell) -> None:
    """`prun` does not read its standard input, and a program that runs here reads it itself."""
    gcc = program("gcc", "gcc")
    user.write_rules('[[rule]]\nmatch = "head"\nwhere = "local"\n')
    (user.folder / "source.c").write_text("int x;\n")
    for _ in range(TRIES):
        shell.begin(f"prun --shadow {gcc} -c source.c\necho ahead", "ahead")
        shell.rest()
        shell.begin("prun head -n 1\nfor head", "for head")
        shell.rest()
    user.write_rules("")


def test_nohup_outlives_the_terminal(user: Prun, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    shell = Shell(user)
    shell.run(f"nohup prun sh -c 'echo begun; cat; cat {tmp_path}/gate' > {tmp_path}/out 2>&1 & disown")
    shell.run(f"until grep -q begun {tmp_path}/out; do sleep 0.05; done")
    shell.child.close(force=True)
    with (tmp_path / "gate").open("w") as gate:
        gate.write("survived\n")
    user.run("sh", "-c", f"until grep -q survived {tmp_path}/out; do sleep 0.05; done")
    assert (tmp_path / "out").read_text().splitlines()[-2:] == ["begun", "survived"]


def test_a_terminal_that_is_closed_ends_its_program(user: Prun) -> None:
    shell = Shell(user)
    shell.child.sendline("prun sh -c 'echo pid=$$.; exec sleep 1000'")
    shell.child.expect(r"pid=(\d+)\.")
    pid = int(shell.child.match[1])
    shell.child.close(force=True)
    wait_gone(pid)
