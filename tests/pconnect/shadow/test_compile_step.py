"""Compile steps with real compilers: another machine gives the same results as this one, byte for byte.

The "other machine" is an empty folder with the environment of a server.
"""

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from pconnect.shadow.compile_step import (
    NoServerError,
    Outcome,
    Step,
    merged,
    run_step,
    write_object,
)
from pconnect.shadow.compiler_words import Family
from tests.support.compiling import Folder, environment
from tests.support.programs import program

OF_GCC = [
    "gcc -c src/foo.c -Iinc",
    "gcc -O2 -Iinc -c src/foo.c",
    "gcc -O3 -g -Iinc -c src/foo.c",
    "gcc -O0 -ggdb -Iinc -c src/foo.c -o out/foo.o",
    "gcc -O2 -g1 -Iinc -c src/foo.c",
    "gcc -Os -gdwarf-4 -Iinc -c src/foo.c",
    "gcc -O2 -g -gz -Iinc -c src/foo.c",
    "gcc -O2 -g -fPIC -fvisibility=hidden -Iinc -c src/foo.c -o out/foo.lo",
    "gcc -O2 -g -DX=3 -UNDEBUG -Iinc -c src/foo.c",
    "gcc -O2 -DNDEBUG '-DX=sizeof(\"a b\")' -Iinc -c src/foo.c",
    "gcc -g -include inc/first.h -DX=FIRST -Iinc -c src/foo.c",
    "gcc -g -imacros inc/first.h -DX=FIRST -Iinc -c src/foo.c",
    "gcc -MD -Iinc -c src/foo.c",
    "gcc -MMD -MP -g -Iinc -c src/foo.c -o out/foo.o",
    "gcc -MD -MF out/deps -MT goal -Iinc -c src/foo.c -o out/foo.o",
    "gcc -MD -MF out/deps -MQ 'go$al' -Iinc -c src/foo.c -o out/foo.o",
    "gcc -MD -Iinc -c src/foo.c -o out/x.tar.o",
    "gcc -MD -Iinc -c src/foo.c -o out/object",
    "gcc -Wp,-MD,out/foo.d -Iinc -c src/foo.c -o out/foo.o",
    "gcc -Wp,-MMD,out/foo.d,-MT,goal -Iinc -c src/foo.c -o out/foo.o",
    "gcc -std=c99 -Wall -Wextra -Iinc -c src/foo.c",
    "gcc -std=c11 -O2 -Wall -Wextra -pedantic -Iinc -c src/foo.c",
    "gcc -O2 -g -Iinc -c {cwd}/src/foo.c",
    "gcc -O2 -g -Iinc -c {cwd}/src/foo.c -ffile-prefix-map={cwd}=.",
    "gcc -O2 -I{cwd}/inc -c {cwd}/src/foo.c",
    "gcc -O2 -I{cwd}/inc -c {cwd}/src/foo.c -fmacro-prefix-map={cwd}=. -fmacro-prefix-map={cwd}/src=/src",
    "gcc -O2 -g -I{cwd}/inc -c {cwd}/src/foo.c -ffile-prefix-map={cwd}/=",
    "gcc -O2 -g -I{cwd}/inc -c ../here/src/foo.c -fdebug-prefix-map=../here=/there",
    "gcc -O2 -g -I../here/inc -c {cwd}/out/../src/foo.c",
    "gcc -O2 -g -I../here/inc -c {cwd}/src/foo.c -flto=1 -fno-lto",
    "gcc -O2 -fsanitize=undefined -I{cwd}/inc -c {cwd}/src/foo.c",
    "g++ -O2 -g -std=c++20 -I{cwd}/inc -c {cwd}/src/bar.cc",
    "gcc -O2 -g -Iinc -c src/foo.c -fdebug-prefix-map={cwd}=/where",
    "gcc -O2 -Iinc -c src/foo.c -fmacro-prefix-map=src=from",
    "gcc -O2 -fsanitize=address,undefined -Iinc -c src/foo.c",
    "gcc -O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fcf-protection -Iinc -c src/foo.c",
    "gcc -O2 -frandom-seed=7 -ffunction-sections -fdata-sections -Iinc -c src/foo.c",
    "gcc -pthread -fopenmp -O2 -Iinc -c src/foo.c",
    "gcc -m64 -march=x86-64-v2 -mtune=generic --param l1-cache-size=16 -O2 -g -Iinc -c src/foo.c",
    "gcc -Wa,--noexecstack -pipe -g -Iinc -c src/foo.c",
    "gcc @words -c src/foo.c",
    "g++ -O2 -g -Iinc -c src/bar.cc",
    "g++ -O2 -c src/local.cc",
    "g++ -O2 -g -c src/local.cc",
    "gcc -O2 -g -fsanitize=undefined -Iinc -c src/foo.c",
    "g++ -std=c++20 -O2 -Iinc -c src/bar.cc -MD -o out/bar.o",
    "g++ -g -O0 -Wall -Iinc -c src/bar.cc",
    "g++ -std=c++14 -fno-exceptions -fno-rtti -O1 -Iinc -c src/bar.cc",
    "g++ -std=c++17 -pedantic -Wall -O2 -Iinc -c src/bar.cc",
    "g++ -x c++ -g -Iinc -c src/foo.c",
    "g++ -g -Iinc -c src/foo.c",
]
OF_CLANG = [
    "clang -O2 -Iinc -c src/foo.c",
    "clang -O2 -gdwarf-4 -Iinc -c src/foo.c -o out/foo.o -MD",
    "clang -gdwarf-4 -g -I{cwd}/inc -c {cwd}/src/foo.c -MMD -MP",
    "clang -gdwarf-4 -fdebug-prefix-map={cwd}=. -I{cwd}/inc -c {cwd}/src/foo.c",
    "clang -g -Iinc -c src/foo.c",
    "clang -O2 -g -Wall -I{cwd}/inc -c {cwd}/src/foo.c -o out/foo.o -MD",
    "clang -O2 -g3 -DX=2 -include inc/first.h -I../here/inc -c ../here/src/foo.c -lunused",
    "clang -g -fdebug-prefix-map={cwd}=. -Iinc -c src/foo.c",
    "clang++ -O2 -g -std=c++17 -Iinc -c src/bar.cc -MMD",
    "clang -g3 -fdebug-macro -Iinc -c src/lines.c",
    "clang -O2 -gdwarf-4 -Iinc -c src/lines.c",
    "clang -O2 -Iinc -c src/lines.c -MD",
    "gcc -O2 -g -Iinc -c src/lines.c -MD",
    "gcc -O2 -Iinc -c src/lines.c",
    "clang -g -O1 -I{cwd} -c {cwd}/near.c -o out/near.o -MD",
    "clang -g -O1 -c near.c -o out/near.o",
    "gcc -g -O1 -I. -c {cwd}/near.c -o out/near.o -MD",
    "clang++ -ggdb -c src/asks.cc -Iinc",
    "clang -g -O1 -Iinc -c src/dos.c",
    "clang -g -O1 -I{cwd}/inc -c {cwd}/src/dos.c -MD",
    "clang -O1 -Iinc -c src/dos.c",
    "gcc -g -O1 -Iinc -c src/dos.c -MD",
    "gcc -g -O1 -I{cwd}/inc -c {cwd}/src/dos.c",
    "gcc -O1 -Iinc -c src/dos.c",
    "clang -O2 -pedantic -Wall -Wextra -DX=2 -include inc/first.h -Iinc -c src/foo.c",
    "clang -O2 -fPIC -flto -Iinc -c src/foo.c",
    "clang++ -O2 -Iinc -c src/bar.cc -MD -MF out/deps",
    "clang++ -O2 -gdwarf-4 -std=c++17 -Iinc -c src/bar.cc -o out/bar.o",
    "clang++ -x c++ -O2 -Iinc -c src/foo.c -o out/foo.o",
]
MISTAKES = [
    "gcc -Wall -Wextra -MD -I{cwd}/inc -c {cwd}/src/bad.c",
    "gcc -Wall -g -MD -Iout/../inc -I../here/inc -c ../here/src/bad.c",
    "g++ -Wall -I{cwd}/inc -c {cwd}/src/warns.c",
    "gcc -Wall -g -I{cwd}/inc -c {cwd}/src/warns.c",
    "gcc -Wall -pedantic -I{cwd}/inc -c {cwd}/src/warns.c -ffile-prefix-map={cwd}=/x",
    "gcc -Iinc -c src/bad.c",
    "gcc -Wall -Wextra -g -MD -Iinc -c src/bad.c",
    "gcc -Wall -Iinc -c src/warns.c",
    "gcc -Wall -pedantic -Iinc -c src/warns.c",
    "gcc -Wall -Werror -Wno-error=cpp -Iinc -c src/warns.c",
    "gcc -w -Iinc -c src/warns.c",
    "gcc -fdiagnostics-color=always -Iinc -c src/bad.c",
    "g++ -Wall -Iinc -c src/warns.c",
    "gcc -Iinc -c src/missing.c",
    "gcc -Iinc -c src/nowhere.c",
    "gcc -Iinc -frobnicate -c src/foo.c",
    "gcc -Iinc -std=c77 -c src/foo.c",
    "clang -Iinc -c src/bad.c",
    "clang -Wall -Wextra -pedantic -Iinc -c src/warns.c",
    "clang -Wall -Werror -Wno-error=#warnings -Iinc -c src/warns.c",
    "clang -Iinc -c src/missing.c",
    "clang -g -Wall -Iinc -c src/warns.c",
    "clang -g -I{cwd}/inc -c {cwd}/src/bad.c",
]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize("line", OF_GCC + OF_CLANG)
def test_objects_and_dependencies_are_the_same_bytes(line: str, folder: Folder) -> None:
    status, stdout, stderr = folder.here(line)
    files = folder.made()
    assert status == 0 and any(name.startswith("out/") or name.endswith(".o") for name in files)
    outcome = folder.away(line)
    assert outcome == Outcome(0, stdout, stderr, "the other folder")
    assert folder.made() == files
    assert len(folder.remote.runs) == 1


@pytest.mark.parametrize("line", MISTAKES)
def test_mistakes_and_warnings_read_the_same(line: str, folder: Folder) -> None:
    status, stdout, stderr = folder.here(line)
    files = folder.made()
    assert stderr or "-w" in line
    outcome = folder.away(line)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (status, stdout, stderr)
    assert folder.made() == files
    assert not outcome.fallback and len(folder.remote.runs) <= 1  # no step is retried


@pytest.mark.parametrize(
    "line", ["gcc -Wall -Werror -Iinc -c src/warns.c", "clang -Werror -Iinc -c src/warns.c"]
)
def test_what_the_preprocessor_refuses_is_not_compiled(line: str, folder: Folder) -> None:
    """A local compiler would continue and also report errors further down."""
    status, _, stderr = folder.here(line)
    outcome = folder.away(line)
    assert (outcome.status, outcome.host, folder.remote.runs) == (status, None, [])
    assert outcome.stderr.splitlines()[0] == stderr.splitlines()[0]


def test_a_macro_of_several_lines_is_one_line_to_the_compiler(folder: Folder) -> None:
    """The only known difference: a note about the macro's definition is missing."""
    (folder.path / "src/bad.c").write_text('#include "user.h"\nint x = ADD("x" * 2,\n1);\n')
    here, away = folder.here("gcc -c src/bad.c -Iinc")[2], folder.away("gcc -c src/bad.c -Iinc").stderr
    assert b"inc/user.h:3:6: note: in definition" in here
    assert b"src/bad.c:2:17: error: invalid operands" in away and b"inc/user.h:3:6:" not in away


def test_what_stays_here_is_not_run_at_all(folder: Folder) -> None:
    outcome = folder.away("gcc -o out/prog src/foo.c")
    assert (outcome.status, outcome.why, outcome.fallback) == (None, "it links", False)
    assert folder.made() == {} and folder.remote.runs == []


def test_the_time_of_the_machine_keeps_a_step_here(folder: Folder) -> None:
    (folder.path / "src/foo.c").write_text("const char *now = __DATE__;\n")
    assert "__DATE__" in folder.away("gcc -c src/foo.c").why
    assert folder.remote.runs == []


def test_where_there_is_no_place_for_the_object_the_local_compiler_says_so(folder: Folder) -> None:
    assert (
        folder.away("gcc -c src/foo.c -Iinc -o none/foo.o").why
        == "none/foo.o cannot be written as a regular file"
    )
    assert folder.away("gcc -c src/foo.c -Iinc -o out").why == "out cannot be written as a regular file"


def test_variables_that_change_the_compiler_keep_a_step_here(folder: Folder) -> None:
    step = Step(["gcc", "-c", "src/foo.c"], str(folder.path), environment={"COMPILER_PATH": "/x"})
    assert "COMPILER_PATH" in run_step(step, folder.remote).why


def test_two_kinds_of_paths_keep_a_step_of_clang_here(folder: Folder) -> None:
    outcome = folder.away("clang -g -I. -c {cwd}/near.c")
    assert "relative and by absolute paths" in outcome.why
    assert folder.remote.runs == []


def test_response_files_in_a_circle_stay_here(folder: Folder) -> None:
    (folder.path / "circle").write_text("@circle")
    assert "includes itself" in folder.away("gcc -c src/foo.c @circle").why


def test_the_native_processor_is_expanded_if_a_rule_says_so(folder: Folder) -> None:
    line = "gcc -O3 -march=native -Iinc -c src/foo.c"
    assert "processor of this machine" in folder.away(line).why
    assert folder.here(line)[0] == 0
    files = folder.made()
    assert folder.away(line, expand_native=True).status == 0
    assert folder.made() == files
    assert not any("native" in word for word in folder.remote.runs[0])
    assert "another order" in folder.away(f"{line} -g", expand_native=True).why


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_colors_are_used_where_a_local_compiler_would(folder: Folder, compiler: str) -> None:
    def is_colored(options: str = "", **variables: str) -> bool:
        outcomes = [
            folder.away(
                f"{compiler} {options} -Iinc -c src/{name}.c", {"TERM": "xterm", **variables}, colors=True
            )
            for name in ("bad", "missing")
        ]
        assert [outcome.status for outcome in outcomes] == [1, 1]
        colored = {b"\x1b[" in outcome.stderr for outcome in outcomes}
        assert len(colored) == 1
        return colored.pop()

    assert is_colored()
    assert not is_colored(TERM="dumb")
    assert not is_colored(NO_COLOR="1")
    assert not is_colored("-fno-diagnostics-color")
    assert is_colored("-fdiagnostics-color", TERM="dumb")


class NoMachine:
    """A remote that never has a machine."""

    def run(self, words: Sequence[str], source: bytes, **options: object) -> NoReturn:
        assert words and (source or options)
        raise NoServerError("no server has a free slot")


def test_without_a_server_a_step_is_to_be_run_here(folder: Folder) -> None:
    step = Step(["gcc", "-c", "src/foo.c", "-Iinc"], str(folder.path), environment=environment())
    assert run_step(step, NoMachine()) == Outcome(None, why="no server has a free slot", fallback=True)
    assert folder.made() == {}


BROKEN = {
    "echo \"error: error reading 'foo.c'\" >&2; exit 1": "error reading",
    "echo \"foo.c:1:9: fatal error: 'a.h' file not found\" >&2; exit 1": "file not found",
    "echo 'foo.c:1: internal compiler error: Segmentation fault' >&2; exit 1": "internal compiler error",
    "echo 'cc1: out of memory allocating 65536 bytes' >&2; exit 1": "out of memory",
    "echo 'gcc: fatal error: Killed signal terminated program cc1' >&2; exit 1": "Killed",
    "echo 'gcc: fatal error: cannot execute '\"'\"'cc1plus'\"'\"'' >&2; exit 1": "cc1plus",
    "kill -KILL $$": "status 137",
    "exit 127": "status 127",
    "exit 0": "no object",
}


@pytest.mark.parametrize("script", BROKEN)
def test_trouble_there_is_a_reason_to_run_it_here(script: str, folder: Folder, tmp_path: Path) -> None:
    program("gcc", "gcc")
    folder.remote.programs = tmp_path / "programs"
    folder.remote.programs.mkdir()
    (folder.remote.programs / "gcc").write_text(f"#!/bin/sh\n{script}\n")
    (folder.remote.programs / "gcc").chmod(0o755)
    (folder.path / "out/foo.o").write_bytes(b"old")
    outcome = folder.away("gcc -Iinc -c src/foo.c -o out/foo.o")
    assert (outcome.status, outcome.fallback) == (None, True)
    assert BROKEN[script] in outcome.why and "the other folder" in outcome.why
    assert folder.made() == {"out/foo.o": b"old"}


@pytest.mark.parametrize(
    "source",
    [
        'void f(void) { puts("out of memory") }\n',
        "#error internal compiler error: No space left on device\n",
        "int x = /* Cannot allocate memory */ y;\n",
    ],
)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_lines_of_the_source_are_no_trouble_of_the_server(source: str, compiler: str, folder: Folder) -> None:
    program(compiler, compiler)
    (folder.path / "src/foo.c").write_text(source)
    outcome = folder.away(f"{compiler} -Iinc -c src/foo.c -o out/foo.o")
    assert (outcome.status, outcome.fallback) == (1, False)


def test_a_macro_of_the_command_may_depend_on_the_machine(folder: Folder) -> None:
    program("clang", "clang")
    outcome = folder.away("clang -DBUILT=__DATE__ -Iinc -c src/foo.c -o out/foo.o")
    assert (outcome.status, outcome.why) == (
        None,
        "the command contains __DATE__, which depends on the machine",
    )


def test_a_new_object_has_the_mode_of_all_new_files(tmp_path: Path) -> None:
    place = tmp_path / "foo.o"
    place.write_bytes(b"old")
    place.chmod(0o444)
    old = os.umask(0)
    try:
        write_object(place, b"new", 0o027)
    finally:
        os.umask(old)
    assert place.read_bytes() == b"new"
    assert stat.S_IMODE(place.lstat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foo.o"]


def test_a_link_or_a_device_is_never_replaced(tmp_path: Path) -> None:
    """Writing an object to /dev/stdout once replaced that link, so this test uses its own links."""
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to("/proc/self/fd/1")
    os.mkfifo(pipe)
    for place in (link, pipe):
        with pytest.raises(FileExistsError):
            write_object(place, b"object", 0o022)
    assert link.is_symlink()
    assert pipe.is_fifo()
    write_object(Path(os.devnull), b"object", 0o022)
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("place", ["out/link", "out/pipe", "/dev/fd/77", "/proc/self/fd/77"])
def test_what_is_no_file_is_left_to_the_local_compiler(place: str, folder: Folder) -> None:
    (folder.path / "out/link").symlink_to("/proc/self/fd/1")
    os.mkfifo(folder.path / "out/pipe")
    outcome = folder.away(f"gcc -Iinc -c src/foo.c -o {place}")
    assert (outcome.status, outcome.why) == (None, f"{place} cannot be written as a regular file")
    assert (folder.path / "out/link").is_symlink()


@pytest.mark.parametrize("words", ["-o ''", "-MD -MF /dev/stdout", "-MD -MF /proc/self/fd/1"])
def test_files_without_a_place_are_left_to_the_local_compiler(words: str, folder: Folder) -> None:
    assert folder.away(f"gcc -Iinc -c src/foo.c {words}") == Outcome(None, why="it writes to standard output")


def test_what_both_steps_say_is_said_once() -> None:
    once = b"In file included from a.c:1:\na.h:2:3: warning: x\n    2 | y\n      | ^\n"
    other = b"a.c:4:5: warning: z\n   4 | y\n"
    assert merged(once, once + other) == once + other
    assert merged(b"", once + other) == once + other
    assert merged(once, b"a.c: In function\n" + other) == once + b"a.c: In function\n" + other


@pytest.mark.parametrize("line", ["gcc -g -Iinc -c src/foo.c", "clang -gdwarf-4 -Iinc -c src/foo.c"])
def test_a_folder_behind_a_link_is_named_as_a_local_compiler_names_it(line: str, folder: Folder) -> None:
    link = folder.path.parent / "link"
    link.symlink_to(folder.path)
    words, variables = folder.words(line), {**environment(), "PWD": str(link)}
    subprocess.run(words, cwd=link, env=variables, check=True)
    files = folder.made()
    family = Family.CLANG if "clang" in words[0] else Family.GCC
    assert run_step(Step(words, str(link), family, variables), folder.remote).status == 0
    assert folder.made() == files
