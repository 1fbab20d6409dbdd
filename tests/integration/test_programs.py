"""Programs on the nodes: what they read, write and return is what it would be here."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import local_network
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobOptions
from pconnect.programs.program import CapturedProgram, CompletedProgram, prepare
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork
from tests.support.waiting import DEADLINE

BINARY = bytes(range(256)) * 50
# Of each: a name, its words, and what it reads.
Row = tuple[str, list[str | bytes], bytes]
STATUSES: list[Row] = [
    (f"exit {status}", ["sh", "-c", f"exit {status}"], b"")
    for status in (0, 1, 2, 77, 125, 126, 127, 128, 255)
]
DEATHS: list[Row] = [
    (f"killed by {number}", ["sh", "-c", f"kill -{number} $$"], b"")
    for number in (1, 2, 3, 6, 9, 10, 12, 13, 15)
]
PROGRAMS: list[Row] = [
    *STATUSES,
    *DEATHS,
    ("true", ["true"], b""),
    ("false", ["false"], b"not read"),
    ("echo", ["echo", "a", "b  c", ""], b""),
    ("no end of line", ["printf", "no end"], b""),
    ("an empty line", ["printf", "\\n"], b""),
    ("NUL bytes", ["printf", "a\\0b\\0"], b""),
    ("quotes", ["printf", "%s|", "'", '"', "$HOME", "`id`", "*", "|", "&&", ";", ">"], b""),
    ("any bytes", ["printf", "%s", bytes(range(1, 256))], b""),
    ("an option", ["ls", "--no-such-option"], b""),
    ("cat", ["cat"], BINARY),
    ("cat of nothing", ["cat"], b""),
    ("wc", ["wc", "-c"], BINARY),
    ("sort", ["sort"], b"b\na\nc"),
    ("tr", ["tr", "a-z", "A-Z"], b"some text"),
    ("od", ["od", "-c"], BINARY),
    ("head", ["head", "-n", "1"], b"first\nsecond\n" * 10),
    ("head of much", ["head", "-c", "5"], b"x" * 3_000_000),
    ("tail", ["tail", "-n", "1"], b"first\nsecond\n"),
    ("grep that finds", ["grep", "b"], b"a\nb\n"),
    ("grep that does not", ["grep", "x"], b"a\nb\n"),
    ("sed", ["sed", "s/a/b/g"], b"banana"),
    ("tee", ["tee", "/dev/stderr"], b"both"),
    ("sha256sum", ["sha256sum"], b"x" * 5_000_000),
    ("seq", ["seq", "1", "20000"], b""),
    ("both streams", ["sh", "-c", "echo out; echo err >&2"], b""),
    ("only errors", ["sh", "-c", "echo err >&2; exit 4"], b""),
    ("errors in bulk", ["sh", "-c", "seq 1 20000 >&2"], b""),
    ("bulk on both", ["sh", "-c", "seq 1 20000 >&2 & seq 1 20000; wait"], b""),
    ("much from a pipe", ["sh", "-c", "head -c 9000000 /dev/zero | tr '\\0' x"], b""),
    ("closes its output", ["sh", "-c", "exec >&-; echo err >&2; exit 5"], b""),
    ("closes its errors", ["sh", "-c", "exec 2>&-; echo out"], b""),
    ("closes both", ["sh", "-c", "exec >&- 2>&-; exit 6"], b""),
    ("closes its input", ["sh", "-c", "exec <&-; echo out"], b"x" * 1_000_000),
    ("does not read", ["sh", "-c", "echo out"], b"x" * 1_000_000),
    ("reads late", ["sh", "-c", "sleep 0.05; wc -c"], b"x" * 1_000_000),
    ("writes late", ["sh", "-c", "echo a; sleep 0.05; echo b"], b""),
    ("a child writes on", ["sh", "-c", "(sleep 0.1; echo late) & echo first"], b""),
    ("a child in a session", ["sh", "-c", "setsid sh -c 'sleep 0.1; echo late' & wait"], b""),
    ("no standard input in children", ["sh", "-c", "cat | cat | wc -c"], b"x" * 100_000),
    ("its arguments", ["sh", "-c", 'printf "%s-" "$@"', "name", "a", "", "b c", "\n"], b""),
    ("arguments of two megabytes", ["sh", "-c", 'printf "%s" "$@" | wc -c', "x", *["y" * 100_000] * 19], b""),
    ("10,000 arguments", ["sh", "-c", "echo $#", "x", *["a"] * 10_000], b""),
    ("its folder", ["pwd"], b""),
    ("PWD", ["sh", "-c", "echo $PWD"], b""),
    ("a variable", ["sh", "-c", "echo $GIVEN; echo $OTHER"], b""),
    ("its group", ["sh", "-c", "test $(ps -o pgid= -p $$) = $$ && echo leads"], b""),
    ("no terminal", ["sh", "-c", "tty; test -t 1; echo $?"], b"x"),
    ("python", [sys.executable, "-c", "import sys; print(sys.stdin.read()); sys.exit('why')"], b"text"),
    ("a traceback", [sys.executable, "-I", "-c", "1 / 0"], b""),
    ("SIGPIPE is as usual", ["sh", "-c", "yes | head -n 1; yes | head -n 1"], b""),
    ("umask", ["sh", "-c", "umask"], b""),
]  # fmt: skip
GIVEN = {"GIVEN": "x y", "OTHER": "ä"}


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1) as made:
        yield made


def here(words: list[str | bytes], data: bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        words,
        input=data,
        capture_output=True,
        cwd=folder,
        env=os.environ | GIVEN | {"PWD": str(folder)},
        check=False,
        process_group=0,
        timeout=DEADLINE,
    )


@pytest.mark.parametrize(("words", "data"), [row[1:] for row in PROGRAMS], ids=[row[0] for row in PROGRAMS])
def test_it_is_as_here(net: ClientNetwork, words: list[str | bytes], data: bytes, tmp_path: Path) -> None:
    expected = here(words, data, tmp_path)
    done = net[1].run(words, input=data, cwd=tmp_path, env=GIVEN)
    assert (done.returncode, done.stdout, done.stderr) == (
        expected.returncode,
        expected.stdout,
        expected.stderr,
    )
    assert (done.node, done.args[0]) == (1, words[0])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_in_any_of_many_runs(net: ClientNetwork, tmp_path: Path) -> None:
    quick = [row for row in PROGRAMS if len(row[2]) < 10**6 and "sleep" not in str(row[1])]
    for _, words, data in quick:
        expected = here(words, data, tmp_path)
        for _ in range(200):
            done = net[1].run(words, input=data, cwd=tmp_path, env=GIVEN)
            assert (done.returncode, done.stdout, done.stderr) == (
                expected.returncode,
                expected.stdout,
                expected.stderr,
            )


# --- in a private folder ---


def in_folder(
    net: ClientNetwork, words: list[str], **options: Any
) -> tuple[CompletedProgram, dict[str, bytes]]:
    job = prepare(scheduler_of(mesh_of(net)), words, JobOptions(), 2**26, folder=True, **options)
    captured = CapturedProgram(job, b"input", is_text=False)
    job.start()
    return captured.outcome(check=False), dict(job.outputs)


def test_what_a_program_leaves_in_its_private_folder_comes_back(net: ClientNetwork) -> None:
    script = "pwd; echo $PWD; ls; cat > deep/in; echo more >> c; exit 3"
    files = {"deep/a": (0o600, b"1"), "b": (0o755, b"#!/bin/sh\necho ran\n"), "c": (0o600, b"text\n")}
    done, outputs = in_folder(net, ["sh", "-c", script], files=files)
    here, variable, *names = done.stdout.decode().split()
    assert (done.returncode, names, done.stderr) == (3, ["b", "c", "deep"], b"")
    assert here == variable and not Path(here).exists()
    assert outputs == {"deep/in": b"input", "c": b"text\nmore\n"}
    done, outputs = in_folder(net, ["./b"], files=files)
    assert (done.stdout, outputs) == (b"ran\n", {})
    done, outputs = in_folder(net, ["touch", "a.dat", "b.log"], outputs=["*.dat"])
    assert (done.returncode, outputs) == (0, {"a.dat": b""})


def test_large_outputs_and_strange_names_come_back(net: ClientNetwork) -> None:
    script = "head -c 5000000 /dev/zero > large; touch \"$(printf 'a\\377 \\n*')\"; mkfifo pipe; rm pipe; mkfifo pipe"
    done, outputs = in_folder(net, ["sh", "-c", script])
    assert (done.returncode, done.stderr) == (0, b"")
    assert outputs == {"large": bytes(5_000_000), os.fsdecode(b"a\xff \n*"): b""}


def test_no_folder_of_a_program_stays_behind(net: ClientNetwork) -> None:
    with pytest.raises(FileNotFoundError, match="there is no program no-such-program"):
        in_folder(net, ["no-such-program"], files={"a": (0o600, b"")})
    with pytest.raises(FileExistsError, match=r"node 1 .*: the private folder in which .*: File exists"):
        in_folder(net, ["true"], files={"a": (0o600, b""), "a/b": (0o600, b"")})
    done, _ = in_folder(net, ["sh", "-c", "ls ../.."])
    assert len(done.stdout.split()) == 1
