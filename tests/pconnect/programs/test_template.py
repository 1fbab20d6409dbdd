"""Programs instead of functions."""

import concurrent.futures
import copy
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pconnect import (
    JobLostError,
    ProgramFailedError,
    ProgramTimeoutError,
    as_completed,
    local_network,
    program,
    serial,
)
from pconnect.errors import ConfigurationError
from pconnect.jobs.job import State
from pconnect.programs.completed import CompletedProgram
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE, wait_until


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(2, slots=2) as made:
        yield made


ECHO = program(["sh", "-c", 'printf "%s|" "$@"', "sh", "{}", "-n={x:.2f}", "{{}}"], text=True)


# --- placeholders ---


@pytest.mark.parametrize(
    ("words", "args", "kwargs", "expected"),
    [
        (["{}-{}", "{}"], (1, 2, "a b"), {}, "1-2|a b|"),
        (["{1}{0}{1}"], ("a", "b"), {}, "bab|"),
        (["{x:03d}", "{x!r}", "{y}"], (), {"x": 7, "y": "$HOME"}, "007|7|$HOME|"),
        (["{}", "{{0}}"], (Path("/a/b"),), {}, "/a/b|{0}|"),
        (["{}"], (b"/a b",), {}, "/a b|"),
        (["a"], (1, np.float64(0.5), "*"), {}, "a|1|0.5|*|"),
        (["a", b"{}"], (), {}, "a|{}|"),
        (["{}"], ("",), {}, "|"),
    ],
)
def test_arguments_stand_in_their_placeholders(words: Any, args: Any, kwargs: Any, expected: str) -> None:
    show = program(["sh", "-c", 'printf "%s|" "$@"', "sh", *words], text=True)
    assert show(*args, **kwargs).stdout == expected


@pytest.mark.parametrize(
    ("words", "args", "kwargs", "text"),
    [
        (["{}", "{}"], (1,), {}, "{}: the call has no argument for this placeholder"),
        (["{x}"], (1,), {}, "{x}: the call has no argument"),
        (["{}"], (1, 2), {}, "argument 1 of the call has no placeholder; add {1} to a word"),
        (["a"], (), {"x": 1}, "argument 'x' of the call has no placeholder; add {x} to a word"),
        (["{:d}"], ("x",), {}, "Unknown format code"),
    ],
)
def test_arguments_that_do_not_fit(net: ClientNetwork, words: Any, args: Any, kwargs: Any, text: str) -> None:
    show = program(["echo", *words])
    with pytest.raises(ConfigurationError) as caught:
        show(*args, **kwargs)
    assert text in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        net.submit(show, *args, **kwargs).result(DEADLINE)
    assert text in str(caught.value)


@pytest.mark.parametrize("word", ["{print $1}", "{", "}", "{a.b}", "{0[1]}", "{-1}"])
def test_braces_that_are_no_placeholder(word: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write \{\{ and \}\} for braces"):
        program(["awk", word])


@pytest.mark.parametrize("words", [[], "ls -l", b"ls"])
def test_what_is_no_program(words: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a program and its arguments as a list"):
        program(words)


def test_a_folder_that_is_not_private_has_no_files() -> None:
    for options in ({"files": "x"}, {"outputs": "x"}):
        with pytest.raises(ConfigurationError, match="leave out cwd"):
            program(["ls"], cwd="/", **options)  # type: ignore[arg-type]


# --- as jobs ---


def test_a_job_of_it_is_a_program(net: ClientNetwork) -> None:
    job = net.submit(program(["sh", "-c", "cat; echo $A >&2; touch a", "sh"], input="text", env={"A": "b"}))
    done = job.result(DEADLINE)
    assert type(done) is CompletedProgram
    assert (done.returncode, done.stdout, done.stderr, dict(done.outputs)) == (0, b"text", b"b\n", {"a": b""})
    assert dict(job.outputs) == {"a": b""}
    assert (done.node, done.host) == (job.node, job.host)
    assert done.duration == job.duration and job.state is State.DONE


def test_maps_of_it_are_as_of_functions(net: ClientNetwork) -> None:
    expected = [f"{k}|-n={k / 2:.2f}|{{}}|" for k in range(40)]

    def shown(made: Any) -> list[str]:
        return [done.stdout for done in made]

    two = program(["sh", "-c", 'printf "%s|" "$@"', "sh", "{}", "-n={:.2f}", "{{}}"], text=True)
    halves = [k / 2 for k in range(40)]
    assert shown(net.map(two, range(40), halves)) == expected
    assert shown(net.map(two, range(40), halves, chunksize=7)) == expected
    assert sorted(shown(net.map(two, range(40), halves, ordered=False))) == sorted(expected)
    assert {done.node for done in net.map(two, range(40), halves, on=2)} == {2}
    assert shown(net.pmap(two, range(40), halves, uniform_output=False)) == expected
    with net.executor() as executor:
        assert shown(executor.map(two, range(40), halves, chunksize=3)) == expected
        jobs = [executor.submit(ECHO, 1, x=k) for k in range(3)]
        assert sorted(job.result().stdout for job in as_completed(jobs)) == [
            f"1|-n={k}.00|{{}}|" for k in range(3)
        ]
    endless = net.map(program(["echo"], text=True), iter(int, 1))
    assert [next(endless).stdout for _ in range(3)] == ["0\n"] * 3


def test_by_default_one_that_fails_is_an_error(net: ClientNetwork) -> None:
    fails = program(["sh", "-c", "echo out; touch log; echo first >&2; echo 'at last' >&2; exit $1", "sh"])
    job = net.submit(fails, 3)
    with pytest.raises(
        ProgramFailedError, match=r"sh -c .* on node \d \(.*\): exit status 3: at last$"
    ) as caught:
        job.result(DEADLINE)
    error = caught.value
    assert isinstance(error, subprocess.CalledProcessError)
    assert (error.returncode, error.output, error.node, dict(error.outputs)) == (
        3,
        b"out\n",
        job.node,
        {"log": b""},
    )
    assert dict(job.outputs) == {"log": b""} and job.state is State.FAILED
    assert str(copy.copy(error)) == str(error)
    outcomes = list(net.map(fails, [0, 1, 0], on_error="return"))
    assert [type(outcome) for outcome in outcomes] == [CompletedProgram, ProgramFailedError, CompletedProgram]
    with pytest.raises(ProgramFailedError, match=r"ended by signal 15 \(Terminated\)$"):
        net.submit(program(["sh", "-c", "kill $$"])).result(DEADLINE)
    assert net.submit(program(["false"], check=False)).result(DEADLINE).returncode == 1


def test_one_that_cannot_be_started(net: ClientNetwork) -> None:
    with pytest.raises(FileNotFoundError, match=r"node \d .*there is no program no-such-program"):
        net.submit(program(["no-such-program"], check=False)).result(DEADLINE)


def test_large_output_files_come_with_a_failure(net: ClientNetwork) -> None:
    job = net.submit(program(["sh", "-c", "head -c 3000000 /dev/zero > large; exit 1"]))
    with pytest.raises(ProgramFailedError) as caught:
        job.result(DEADLINE)
    assert dict(caught.value.outputs) == {"large": bytes(3_000_000)}


def test_limits_of_jobs_hold(net: ClientNetwork) -> None:
    with net.executor(time_limit=0.3) as executor:
        with pytest.raises(
            ProgramTimeoutError, match=r"sh on node . .* timed out at its time limit"
        ) as caught:
            executor.submit(program(["sh", "-c", "echo a; exec sleep 100"])).result(DEADLINE)
        assert caught.value.stdout == b"a\n"
    with (
        net.executor(memory_limit=10**9) as executor,
        pytest.raises(ConfigurationError, match="memory_limit is for functions"),
    ):
        executor.submit(program(["true"])).result(DEADLINE)


def test_a_job_of_it_can_be_cancelled(net: ClientNetwork, tmp_path: Path) -> None:
    job = net.submit(program(["sh", "-c", "echo $$ > $1; exec sleep 100", "sh"]), tmp_path / "pid")
    wait_until(lambda: job.running() and (tmp_path / "pid").exists(), "the program")
    assert job.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        job.result(DEADLINE)
    assert job.cancelled()


def test_one_that_is_lost_runs_again_from_the_beginning(net: ClientNetwork, tmp_path: Path) -> None:
    script = "echo begin; touch $$; cat; test -e $1 && echo end || (touch $1; kill -9 $PPID; sleep 100)"
    repeated = program(["sh", "-c", script, "sh"], input="text\n", text=True)
    with net.executor(retries=1) as executor:
        job = executor.submit(repeated, tmp_path / "a")
        assert job.result(DEADLINE).stdout == "begin\ntext\nend\n"
        assert (job.losses, len(job.outputs)) == (1, 1)
    with pytest.raises(JobLostError):
        net.submit(repeated, tmp_path / "b").result(DEADLINE)


def test_it_is_not_called_inside_a_job(net: ClientNetwork) -> None:
    for called in (functools.partial(ECHO, 1), lambda: ECHO(1, x=2)):
        with pytest.raises(ConfigurationError, match=r"pass it to submit\(\) or map\(\) itself"):
            net.submit(called).result(DEADLINE)
    with pytest.raises(ConfigurationError, match=r"pass it to submit\(\) or map\(\) itself"):
        net.pool().map(program(["echo"]), [1])


# --- files ---


def test_files_go_along_under_their_names(
    net: ClientNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "1.txt").write_text("one")
    (tmp_path / "data" / "deep" / "2.txt").write_text("two")
    (tmp_path / "sim").write_text("#!/bin/sh\ncat $1; pwd; ls > list\n")
    (tmp_path / "sim").chmod(0o755)
    sent = program(["./sim", "data/deep/{0}.txt"], files=["sim", "data/deep/{0}.txt"], text=True)
    for done in [*net.map(sent, [1, 2]), sent(1), sent(2)]:
        text, folder = done.stdout.split("/", 1)
        assert text in {"one", "two"} and f"/{folder}" != f"{tmp_path}\n"
        assert dict(done.outputs) == {"list": b"data\nlist\nsim\n"}
    whole = program(["cat", "deep/1.txt"], files=tmp_path / "data" / "deep")
    assert net.submit(whole).result(DEADLINE).stdout == whole().stdout == b"one"
    unsent = program(
        ["./sim", tmp_path / "data" / "deep" / "1.txt"], text=True, outputs="*.txt"
    )  # found by its path
    done = net.submit(unsent).result(DEADLINE)
    assert done.stdout.startswith("one/") and done.outputs == {}
    with pytest.raises(ConfigurationError, match="files: none: No such file or directory"):
        net.submit(program(["ls"], files="none")).result(DEADLINE)


def test_only_selected_outputs_come_back(net: ClientNetwork) -> None:
    touch = program(["sh", "-c", "mkdir out; touch a.dat b.log out/c.dat out/d"], outputs=["*.dat", "b.log"])
    expected = {"a.dat", "b.log", "out/c.dat"}
    assert set(touch().outputs) == set(net.submit(touch).result(DEADLINE).outputs) == expected


def test_in_a_folder_that_is_given(net: ClientNetwork, tmp_path: Path) -> None:
    write = program(["sh", "-c", "echo $PWD > {}; pwd"], cwd=tmp_path, text=True)
    for done, name in ((write("a"), "a"), (net.submit(write, "b").result(DEADLINE), "b")):
        assert (done.stdout, done.outputs) == (f"{tmp_path}\n", {})
        assert (tmp_path / name).read_text() == f"{tmp_path}\n"


# --- on this machine ---


def test_called_it_runs_here() -> None:
    assert ECHO("a b", x=1).stdout == "a b|-n=1.00|{}|"
    assert (ECHO(1, x=2).node, ECHO(1, x=2).host) == (None, "this process")
    with pytest.raises(ProgramFailedError, match=r"^false: exit status 1$"):
        program(["false"])()
    with pytest.raises(FileNotFoundError):
        program(["no-such-program"])()
    assert repr(ECHO) == "program(['sh', '-c', 'printf \"%s|\" \"$@\"', 'sh', '{}', '-n={x:.2f}', '{{}}'])"


def test_in_a_network_of_one_process() -> None:
    with serial(2) as net:
        power = program(
            ["sh", "-c", "echo $(($1 * $1)) | tee {}.txt; exit $2", "sh", "{0}", "{1}"], text=True
        )
        job = net.submit(power, 3, 0)
        assert (job.result().stdout, dict(job.outputs)) == ("9\n", {"3.txt": b"9\n"})
        assert [done.stdout for done in net.map(power, [1, 2], [0, 0])] == ["1\n", "4\n"]
        failed = net.submit(power, 3, 5)
        with pytest.raises(ProgramFailedError, match="exit status 5"):
            failed.result()
        assert dict(failed.outputs) == {"3.txt": b"9\n"}
