"""Programs on the nodes read, write and return the same as they would here."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import local_network
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobOptions
from pconnect.programs.completed import CompletedProgram
from pconnect.programs.program import CapturedProgram, prepare
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork
from tests.support.small_programs import GIVEN, PROGRAMS, here, quick


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1) as made:
        yield made


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


def test_programs_get_nothing_that_was_set_for_python(net: ClientNetwork) -> None:
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MPLBACKEND", "KMP_DUPLICATE_LIB_OK"
    script = "".join(f'echo "${{{name}-none}}";' for name in names)
    expected = "\n".join(os.environ.get(name, "none") for name in names)
    assert net[1].run(["sh", "-c", script], text=True).stdout.strip() == expected
    assert net[1].eval("__import__('os').environ['OMP_NUM_THREADS']").result()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_in_any_of_many_runs(net: ClientNetwork, tmp_path: Path) -> None:
    for _, words, data in quick():
        expected = here(words, data, tmp_path)
        for _ in range(50):
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


def test_large_files_go_along(net: ClientNetwork) -> None:
    data = os.urandom(20_000_000)
    done, outputs = in_folder(
        net, ["sh", "-c", "sha256sum < large; tail -c 9 large > end"], files={"large": (0o600, data)}
    )
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert outputs == {"end": data[-9:]}


def test_no_folder_of_a_program_stays_behind(net: ClientNetwork) -> None:
    with pytest.raises(FileNotFoundError, match="there is no program no-such-program"):
        in_folder(net, ["no-such-program"], files={"a": (0o600, b"")})
    with pytest.raises(FileExistsError, match=r"node 1 .*: cannot fill the private folder.*: File exists"):
        in_folder(net, ["true"], files={"a": (0o600, b""), "a/b": (0o600, b"")})
    done, _ = in_folder(net, ["sh", "-c", "ls ../.."])
    assert len(done.stdout.split()) == 1
