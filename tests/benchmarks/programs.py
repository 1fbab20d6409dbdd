"""Print the time of programs under `prun`, compared with local runs and other tools for remote programs.

Everything runs on this machine, and all lines of a table are measured in turn. Options: ``--turns N``.
"""

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock

from srp_tools.private_files import client_file, write_private
from tests.benchmarks.other_runners import distcc, ssh
from tests.benchmarks.ours import CREDENTIALS, running_server
from tests.benchmarks.timing import Sample

_ROW = "{:44} {:28} {:>9} {:>14}"
_PRUN = Path(sys.executable).with_name("prun")
_SERVERS = 2
_STREAM_MB = 1000
Words = Sequence[str | Path]


def main() -> None:
    """Measure everything and print both tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.programs", description=__doc__)
    parser.add_argument("--turns", type=int, default=60, help="number of runs of each")
    print_tables(parser.parse_args().turns)


def print_tables(turns: int) -> None:
    """Print a table each for programs that do nothing, a stream through a program, and a compiled file."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prun-bench-")))
        for name in ("ssh", "distcc"):
            (folder / name).mkdir()
        by_ssh = stack.enter_context(ssh(folder / "ssh"))
        by_distcc = stack.enter_context(distcc(folder / "distcc"))
        ours = stack.enter_context(_prun(folder))
        true = str(shutil.which("true"))
        rows: dict[str, Words | None] = {
            "true, here": [true],
            "prun true": ours and [*ours, "true"],
            "ssh host true (ControlMaster)": by_ssh and [*by_ssh, "true"],
        }
        _print_table(rows, turns)
        rows = {
            f"{_STREAM_MB} MB through cat, here": ["cat"],
            "the same over TLS sockets": [sys.executable, "-m", "tests.benchmarks.raw_cat"],
            "prun cat": ours and [*ours, "cat"],
            "ssh host cat": by_ssh and [*by_ssh, "cat"],
        }
        rows = {name: words and _between_pipes(words) for name, words in rows.items()}
        _print_table(rows, max(turns // 12, 3))
        compiler = shutil.which("gcc")
        if compiler is None:
            print("gcc: not installed")
            return
        source = folder / "source.c"
        source.write_text(_source(60))
        compiling: list[str | Path] = [compiler, "-O2", "-c", source, "-o"]
        rows = {
            "gcc -O2 -c of one file, here": [*compiling, folder / "here.o"],
            "the same by prun": ours and [*ours, "--no-local", "--shadow", *compiling, folder / "ours.o"],
            "the same by distcc": by_distcc and [*by_distcc, *compiling, folder / "distcc.o"],
        }  # fmt: skip
        _print_table(rows, max(turns // 3, 3))
        _compare(folder)
        if ours:
            subprocess.run([*ours, "--report"], check=False)  # whether the steps ran remotely


@contextlib.contextmanager
def _prun(folder: Path) -> Iterator[Words | None]:
    """Yield the words that make our servers run a program; ``None`` if prun is not installed."""
    if not _PRUN.exists():
        yield None
        return
    with running_server(slots=2, count=_SERVERS) as server, mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("PCONNECT_")]:
            del os.environ[name]
        os.environ["XDG_CONFIG_HOME"] = str(folder)
        file = client_file(folder / "pserver")
        write_private(file, f"{CREDENTIALS.user}:{CREDENTIALS.password}\n")
        hosts = " ".join(f"127.0.0.1:{port}" for port in server.ports)
        write_private(file.with_name("pconnect.toml"), f'hosts = "{hosts}"\n')
        try:
            yield [_PRUN]
        finally:
            subprocess.run([_PRUN, "--agent", "stop"], check=False, capture_output=True)


def _print_table(rows: Mapping[str, Words | None], turns: int) -> None:
    """Print one line for each program, with its time relative to the first one, which runs here."""
    samples = _by_turns({name: _work(words) for name, words in rows.items() if words is not None}, turns)
    first = next(iter(samples.values()))
    print(_ROW.format(f"median (min..max) of {turns} turns", "", "x here", "more than here"))
    for name in rows:
        sample = samples.get(name)
        if sample is None:
            print(_ROW.format(name, "not installed", "", ""))
            continue
        pairs = list(zip(first.durations, sample.durations, strict=True))
        ratio = Sample([other / here for here, other in pairs]).median
        more = Sample([other - here for here, other in pairs]).median
        print(_ROW.format(name, sample.text("ms"), f"{ratio:.2f} x", f"{more * 1e3:.2f} ms"), flush=True)
    print()


def _between_pipes(words: Words) -> Words:
    """Return a command that sends bytes through a program."""
    line = f"head -c {_STREAM_MB}000000 /dev/zero | {shlex.join(map(str, words))} | cat > /dev/null"
    return ["bash", "-o", "pipefail", "-c", line]


def _work(words: Words) -> Callable[[], None]:
    """Return a function that runs a program once; a non-zero exit status is an error."""
    arguments = [os.fspath(word) for word in words]
    path = str(shutil.which(arguments[0]))
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]

    def run() -> None:
        # As a shell would start it: the extra work of `subprocess` takes as long as some of these programs.
        pid = os.posix_spawn(path, arguments, os.environ, file_actions=streams)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            raise RuntimeError(f"{' '.join(arguments)} has ended with status {status}")

    return run


def _by_turns(works: Mapping[str, Callable[[], None]], turns: int) -> dict[str, Sample]:
    """Run each in turn, after some warm-up runs that start connections and agents."""
    durations: dict[str, list[float]] = {name: [] for name in works}
    warm_up = 2 + turns // 10
    for turn in range(warm_up + turns):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            if turn >= warm_up:
                durations[name].append(time.perf_counter() - begin)
    return {name: Sample(each) for name, each in durations.items()}


def _source(functions: int) -> str:
    """Return a C file that takes a compiler some time, as files of real projects do."""
    body = """
static double step_{n}(const double *x, int count)
{{
    double sum = {n};
    for (int i = 0; i < count; i++)
        sum += x[i] > {n} ? sqrt(x[i]) * {n} : fabs(x[i]) + sum / (i + 1);
    printf("%d %g\\n", {n}, sum);
    return sum;
}}
"""
    calls = "".join(f"    sum += step_{n}(x, count);\n" for n in range(functions))
    parts = [body.format(n=n) for n in range(functions)]
    head = "#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
    end = f"\ndouble all(const double *x, int count)\n{{\n    double sum = 0;\n{calls}    return sum;\n}}\n"
    return f"{head}{''.join(parts)}{end}"


def _compare(folder: Path) -> None:
    """Print whether the objects equal the ones that a local compiler makes."""
    objects = {name: folder / f"{name}.o" for name in ("here", "ours", "distcc")}
    made = {name: path.read_bytes() for name, path in objects.items() if path.exists()}
    others = {
        name: "the same" if data == made["here"] else "another"
        for name, data in made.items()
        if name != "here"
    }
    print("".join(f"object by {name}: {text}\n" for name, text in others.items()))


if __name__ == "__main__":
    main()
