import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pconnect.prun import fast_client
from pconnect.prun.rules import read_rules
from pconnect.shadow.guard import VARIABLE
from pconnect.shadow.stand_in import (
    AGENT_VARIABLES,
    StandIn,
    agent_name,
    check_name,
    is_compiler,
    read_stand_in,
)
from srp_tools.errors import ConfigurationError
from tests.support.shadowing import Recorder, clean_environment, make_program, output_of
from tests.support.waiting import TRIES

Make = Callable[..., Path]
BUILT_IN = read_rules(Path("/nonexistent/prun.toml"))


@pytest.fixture
def prun(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture
def make(tmp_path: Path, prun: Recorder) -> Make:
    """Return a function that makes a stand-in for a program that prints its arguments."""

    def made(name: str = "gcc", environment: dict[str, str] | None = None, no_local: bool = False) -> Path:
        program = make_program(tmp_path / "real" / name)
        stand_in = StandIn(str(program), str(prun.path), no_local=no_local)
        path = tmp_path / "stand-ins" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stand_in.script(environment or {}))
        path.chmod(0o755)
        assert read_stand_in(path) == stand_in
        return path

    return made


@pytest.mark.parametrize(
    "words",
    [["-c", "a.c"], ["-O2", "-o", "a.o", "-c", "a.c"], ["@words"], ["-c", "@words"], ["a.c", "-c", "-MD"]],
    ids=" ".join,
)
def test_steps_that_compile_go_to_prun(make: Make, prun: Recorder, words: list[str]) -> None:
    path = make()
    assert output_of([path, *words]) == []
    real = os.fsencode(path.parent.parent / "real" / "gcc")
    assert prun.calls() == [b"--shadow", real, *(word.encode() for word in words)]


@pytest.mark.parametrize(
    "words",
    [
        [], ["a.o", "-o", "a"], ["--version"], ["-E", "-c", "a.c"], ["-c", "a.c", "-E"], ["-M", "-c", "a.c"],
        ["-MM", "-c", "a.c"], ["-c", "-S", "a.c"], ["-c", "-x", "c", "-"], ["-S", "a.c"], ["-E", "@words"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_all_other_steps_stay(make: Make, prun: Recorder, words: list[str]) -> None:
    assert output_of([make(), *words]) == [b"real", *(word.encode() for word in words)]
    assert prun.calls() is None


def test_of_another_program_all_calls_go_to_prun(make: Make, prun: Recorder) -> None:
    path = make("sort")
    output_of([path])
    assert prun.calls() == [b"--shadow", os.fsencode(path.parent.parent / "real" / "sort")]


@given(words=st.lists(st.binary(max_size=30).filter(lambda word: b"\0" not in word), max_size=6))
def test_arguments_arrive_whatever_their_bytes(
    tmp_path_factory: pytest.TempPathFactory, words: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("bytes", numbered=True)
    prun = Recorder(folder)
    program = make_program(folder / "it's $HOME\udcff" / "sort of")
    path = folder / "stand-in"
    path.write_bytes(StandIn(str(program), str(prun.path)).script({}))
    path.chmod(0o755)
    output_of([path, *words])
    assert prun.calls() == [b"--shadow", os.fsencode(program), *words]
    assert output_of([path, *words], {VARIABLE: "x"}) == [b"real", *words]


def test_what_a_stand_in_has_started_stays(make: Make, prun: Recorder) -> None:
    assert output_of([make(), "-c"], {VARIABLE: "other"}) == [b"real", b"-c"]
    assert prun.calls() is None


def test_a_program_that_calls_itself_by_its_name_finds_the_real_one(make: Make, tmp_path: Path) -> None:
    path = make("tool")
    real = tmp_path / "real" / "tool"
    real.write_text(f'#!/bin/sh\n[ "$1" != again ] || exec tool\necho "${VARIABLE}"\n')
    path.write_bytes(path.read_bytes().replace(bytes(tmp_path / "prun"), b"/nonexistent/prun"))
    search = {"PATH": f"{path.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["tool", "again"], check=True, capture_output=True, timeout=30, env=clean_environment(search)
    )
    assert done.stdout == b"tool\n"


def test_without_prun_the_real_program_runs(make: Make, tmp_path: Path) -> None:
    path = make()
    (tmp_path / "prun").unlink()
    assert output_of([path, "-c"]) == [b"real", b"-c"]


def test_the_environment_is_as_it_was_but_for_the_guard(make: Make, tmp_path: Path) -> None:
    path = make("env")
    (tmp_path / "real" / "env").write_text("#!/bin/sh\nexec /usr/bin/env -0\n")
    (tmp_path / "prun").unlink()
    given = clean_environment(dict.fromkeys(("stay", "real", "name", "word", "run", "prun"), "mine"))
    shown = set(output_of([path], given))
    assert {f"{name}={value}".encode() for name, value in given.items()} <= shown
    assert f"{VARIABLE}=env".encode() in shown


# --- without a network ---


def offline(folder: Path, environment: dict[str, str], process: int) -> dict[str, str]:
    """Leave the link of an agent without a network; return an environment in which stand-ins find it."""
    run = folder / "run" / "prun"
    run.mkdir(parents=True, exist_ok=True)
    (run / f"{agent_name(environment)}.offline").symlink_to(f"/proc/{process}")
    return environment | {"XDG_RUNTIME_DIR": str(run.parent)}


OTHER = {"PCONNECT_HOSTS": "alpha beta's", "XDG_CONFIG_HOME": "/etc/x y"}


@pytest.mark.parametrize("recorded", [{}, OTHER], ids=["default", "other"])
@pytest.mark.parametrize("used", [{}, OTHER], ids=["default", "other"])
def test_while_the_agent_has_no_network_all_stays(
    make: Make, prun: Recorder, tmp_path: Path, recorded: dict[str, str], used: dict[str, str]
) -> None:
    path = make(environment=recorded)
    environment = offline(tmp_path, used, os.getpid())
    shown = output_of([path, "-c"], environment)
    if used and not recorded:  # the script does not know the agent's name, so it asks prun
        assert prun.calls() is not None
    else:
        assert (shown, prun.calls()) == ([b"real", b"-c"], None)


def test_an_agent_that_has_ended_says_nothing(make: Make, prun: Recorder, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait(30)
    output_of([make(), "-c"], offline(tmp_path, {}, ended.pid))
    assert prun.calls() is not None


def test_another_agent_without_network_counts_for_nothing(make: Make, prun: Recorder, tmp_path: Path) -> None:
    environment = offline(tmp_path, {}, os.getpid())
    output_of([make(environment=OTHER), "-c"], environment | OTHER)
    assert prun.calls() is not None


def test_a_password_is_not_written(make: Make) -> None:
    path = make(environment={"PCONNECT_USER": "alice", "PCONNECT_PASSWORD": "secret"})
    assert b"alice" in path.read_bytes()
    assert b"secret" not in path.read_bytes()


def test_without_local_runs_an_agent_without_network_is_asked(
    make: Make, prun: Recorder, tmp_path: Path
) -> None:
    path = make(no_local=True)
    output_of([path, "-c"], offline(tmp_path, {}, os.getpid()))
    assert (prun.calls() or [])[:2] == [b"--no-local", b"--shadow"]
    assert output_of([path, "a.o"]) == [b"real", b"a.o"]  # linking always runs here


def test_without_local_runs_a_missing_prun_is_an_error(make: Make, tmp_path: Path) -> None:
    path = make(no_local=True)
    (tmp_path / "prun").unlink()
    done = subprocess.run([path, "-c"], check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (125, "")
    assert f"{tmp_path}/prun is gone" in done.stderr


@pytest.mark.parametrize("how", ["absolute", "relative", "in PATH", "link"])
def test_it_does_not_matter_how_it_is_called(make: Make, prun: Recorder, tmp_path: Path, how: str) -> None:
    path = make("tool")
    if how == "link":
        (tmp_path / "other").symlink_to(path)
    called = {
        "absolute": str(path),
        "relative": "./tool",
        "in PATH": "tool",
        "link": str(tmp_path / "other"),
    }[how]
    environment = clean_environment({"PATH": f"{path.parent}:{os.environ['PATH']}"})
    subprocess.run([called, "x"], check=True, cwd=path.parent, env=environment, timeout=30)
    assert prun.calls() == [b"--shadow", os.fsencode(tmp_path / "real" / "tool"), b"x"]


@given(environment=st.dictionaries(st.sampled_from([*AGENT_VARIABLES, "PATH"]), st.text(), max_size=4))
def test_an_agent_has_the_name_that_it_has_for_prun(environment: dict[str, str]) -> None:
    encoded = {name.encode(): value.encode(errors="surrogateescape") for name, value in environment.items()}
    assert agent_name(environment) == fast_client.agent_name(encoded)


# --- names and reading ---


@pytest.mark.parametrize("name", ["gcc", "g++-12", "cc", "clang++", "arm-none-eabi-gcc", "clang-14"])
def test_compilers(name: str) -> None:
    assert is_compiler(name)
    assert BUILT_IN.explain([name.encode()]).settings.compiler


@pytest.mark.parametrize("name", ["ld", "ccache", "gcc-ar", "clang-format", "clangd", "gcc_", "make"])
def test_no_compilers(name: str) -> None:
    assert not is_compiler(name)
    assert not BUILT_IN.explain([name.encode()]).settings.compiler


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\nb", "prun", "pshadow", "prun-ssh"])
def test_names_that_no_stand_in_can_have(name: str) -> None:
    with pytest.raises(ConfigurationError):
        check_name(name)


def test_what_is_no_stand_in(tmp_path: Path, make: Make) -> None:
    assert read_stand_in(tmp_path) is None
    assert read_stand_in(tmp_path / "missing") is None
    assert read_stand_in("/bin/sh") is None
    (tmp_path / "broken").write_text('#!/bin/sh\n# pshadow 1 {"program": \n')
    assert read_stand_in(tmp_path / "broken") is None
    (tmp_path / "other").write_text('#!/bin/sh\n# pshadow 1 {"something": 1}\n')
    assert read_stand_in(tmp_path / "other") is None
    os.mkfifo(tmp_path / "pipe")
    assert read_stand_in(tmp_path / "pipe") is None
    (tmp_path / "link").symlink_to(make())
    assert read_stand_in(tmp_path / "link") is None


def test_what_stays_costs_little(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Print the overhead of a stand-in for a local run. The best of several tries counts, whatever else is running."""
    path = make()
    real = tmp_path / "real" / "gcc"
    real.unlink()
    real.symlink_to("/bin/true")

    def best(command: list[str], environment: dict[str, str]) -> float:
        times = []
        for _ in range(100):
            begun = time.perf_counter()
            subprocess.run(command, check=True, env=environment)
            times.append(time.perf_counter() - begun)
        return sorted(times)[len(times) // 2]

    environment = offline(tmp_path, clean_environment(), os.getpid())
    words = [f"-DA{number}={number}" for number in range(40)]
    added = []
    for _ in range(TRIES):
        direct = best([str(real), "-c", *words], environment)
        linking = best([str(path), *words], environment) - direct
        without = best([str(path), "-c", *words], environment) - direct
        added.append((linking, without))
        if max(linking, without) <= 0.005:
            break
    with capsys.disabled():
        print(f" [added: linking {linking * 1e3:.2f} ms, without a network {without * 1e3:.2f} ms]")
    assert min(max(pair) for pair in added) <= 0.005
