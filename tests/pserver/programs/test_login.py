"""Lines for the login shell of an account."""

import os
import pwd
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import local_network
from pconnect.errors import ConfigurationError
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobOptions
from pconnect.programs.completed import CompletedProgram
from pconnect.programs.program import CapturedProgram, prepare
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork
from pserver.programs.login import through_login_shell

ME = pwd.getpwuid(os.geteuid())


def request(
    line: bytes = b"ls", account: bytes = b"", env: dict[bytes, bytes] | None = None
) -> dict[str, Any]:
    return {"args": [line], "cwd": b"/", "env": env or {}, "login": account}


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1) as made:
        yield made


def run(
    net: ClientNetwork, line: str | bytes, account: str = "", data: bytes = b"", **more: Any
) -> CompletedProgram:
    mesh = mesh_of(net)
    options = JobOptions(on=frozenset([1]))
    job = prepare(scheduler_of(mesh), [line], options, mesh.limits.max_message_bytes, login=account, **more)
    program = CapturedProgram(job, data, is_text=False)
    job.start()
    return program.outcome(check=False)


def with_account(monkeypatch: pytest.MonkeyPatch, home: Path, shell: str) -> None:
    entry = pwd.struct_passwd(("alice", "x", os.geteuid(), os.getegid(), "", str(home), shell))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: entry)
    monkeypatch.delenv("HOME")


def test_the_shell_runs_the_line_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_account(monkeypatch, tmp_path, "/bin/zsh")
    monkeypatch.setenv("PATH", "/opt/bin:/bin")
    made = through_login_shell(request(b"echo $HOME", env={b"A": b"1", b"SHELL": b"theirs"}))
    assert made["args"] == [b"/bin/zsh", b"-c", b"echo $HOME"]
    assert made["cwd"] == os.fsencode(tmp_path)
    environment = made["env"]
    assert environment[b"HOME"] == os.fsencode(tmp_path)
    assert environment[b"USER"] == environment[b"LOGNAME"] == b"alice"
    own = os.fsencode(Path(sys.executable).parent)
    assert environment[b"PATH"] == b"/opt/bin:/bin:/usr/local/bin:/usr/bin:" + own
    assert (environment[b"A"], environment[b"SHELL"]) == (b"1", b"theirs")


def test_without_a_line_it_is_the_shell_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_account(monkeypatch, tmp_path, "/bin/zsh")
    assert through_login_shell(request(b""))["args"] == [b"/bin/zsh", b"-l"]


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false", ""])
def test_sh_takes_the_place_of_no_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: str) -> None:
    with_account(monkeypatch, tmp_path, shell)
    assert through_login_shell(request())["args"] == [b"/bin/sh", b"-c", b"ls"]


def test_the_home_of_the_environment_counts_and_must_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_account(monkeypatch, tmp_path / "missing", "/bin/sh")
    assert through_login_shell(request())["cwd"] == b"/"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert through_login_shell(request())["cwd"] == os.fsencode(tmp_path)


def test_a_user_without_an_entry_has_a_shell_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def none(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", none)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = through_login_shell(request())
    assert (made["args"][0], made["cwd"]) == (b"/bin/sh", os.fsencode(tmp_path))
    assert made["env"][b"USER"] == str(os.geteuid()).encode()


def test_nobody_becomes_another(net: ClientNetwork) -> None:
    assert run(net, "id -un", ME.pw_name).stdout.decode() == f"{ME.pw_name}\n"
    with pytest.raises(
        PermissionError, match=f"node 1 .*: the server runs as {ME.pw_name} and cannot switch to nobody-"
    ):
        run(net, "id -un", "nobody-else")


def test_what_ends_and_reads_does_so_as_anywhere(net: ClientNetwork) -> None:
    ended = run(net, "cat; echo err >&2; exit 3", data=b"in")
    assert (ended.stdout, ended.stderr, ended.returncode) == (b"in", b"err\n", 3)
    assert run(net, b"printf '\xff'").stdout == b"\xff"
    assert run(net, "", data=b"echo $0; exit 4\n").returncode == 4
    assert run(net, "echo $A $SHLVL", env={"A": "1"}).stdout.startswith(b"1 ")


def test_one_line_it_is(net: ClientNetwork) -> None:
    with pytest.raises(ConfigurationError, match="the name of the program is empty"):
        prepare(scheduler_of(mesh_of(net)), [""], JobOptions(), 2**20)


def test_lines_are_of_one_kind_whatever_they_are(net: ClientNetwork) -> None:
    """Memory kept for each kind of program, such as durations, must not grow with the number of lines."""
    functions = scheduler_of(mesh_of(net)).functions
    assert run(net, "echo 1").args == ["login shell", "echo 1"]
    one = functions.get("login shell")
    mesh = mesh_of(net)
    job = prepare(scheduler_of(mesh), ["echo 2"], JobOptions(), mesh.limits.max_message_bytes, login="")
    assert job.function is one
