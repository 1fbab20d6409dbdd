"""Identify the compilers here and on other machines."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pconnect.shadow.compiler_versions import (
    Identity,
    OtherCompilerError,
    check_same,
    expand_native,
    identity,
    identity_here,
    is_native,
)
from pconnect.shadow.compiler_words import Family
from tests.support.programs import program

ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C"}


def asked(compiler: str, *words: str) -> str:
    return subprocess.run([compiler, *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("name", ["gcc", "g++", "clang", "clang++"])
def test_a_compiler_says_what_it_is(name: str) -> None:
    path = program(name, name.removesuffix("++") if "clang" in name else name)
    found = identity_here(name, ENVIRONMENT)
    assert found.family is (Family.CLANG if "clang" in name else Family.GCC)
    assert found.machine == asked(path, "-dumpmachine")
    assert found.version in asked(path, "--version").splitlines()[0]
    assert found.version.count(".") == 2
    assert found == identity_here(path, ENVIRONMENT)


def test_the_name_does_not_count(tmp_path: Path) -> None:
    gcc = program("gcc", "gcc")
    (tmp_path / "cc").symlink_to(gcc)
    assert identity_here(str(tmp_path / "cc"), ENVIRONMENT) == identity_here("gcc", ENVIRONMENT)


def test_a_compiler_is_asked_again_after_it_was_replaced(tmp_path: Path) -> None:
    script = "#!/bin/sh\necho run >>{runs}\n"
    script += 'case "$1" in --version) echo "cc (own) {version}";; *) echo {version};; esac\n'
    compiler, runs = tmp_path / "cc", tmp_path / "runs"
    for version in ("1.2.3", "1.2.34"):
        compiler.write_text(script.format(version=version, runs=runs))
        compiler.chmod(0o755)
        for _ in range(3):
            assert identity_here(str(compiler), ENVIRONMENT).version == version
    assert len(runs.read_text().splitlines()) == 2 * 5  # each identification runs the compiler five times


def test_what_is_no_compiler_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OtherCompilerError, match="there is no nothing-like-it on this machine"):
        identity_here("nothing-like-it", ENVIRONMENT)
    with pytest.raises(OtherCompilerError, match="--version ended with status 1"):
        identity_here(str(shutil.which("false")), ENVIRONMENT)
    (tmp_path / "cc").write_text('#!/bin/sh\n[ "$1" = --version ] && echo tool 1.0\n')
    (tmp_path / "cc").chmod(0o755)
    with pytest.raises(OtherCompilerError, match="does not know -dumpmachine"):
        identity_here(str(tmp_path / "cc"), ENVIRONMENT)


def test_a_node_is_asked_through_what_runs_words_there() -> None:
    def run(words: Sequence[str]) -> tuple[int, bytes]:
        asked_there.append(list(words))
        return 0, b"Debian clang version 14.0.6\nTarget: x\n" if words[1] == "--version" else b"14.0.6\n"

    asked_there: list[list[str]] = []
    assert identity("cc", run) == Identity("14.0.6", "14.0.6", "Debian clang version 14.0.6")
    assert asked_there == [["cc", "--version"], ["cc", "-dumpversion"], ["cc", "-dumpmachine"]]


def test_another_compiler_is_refused_and_both_are_named() -> None:
    here = Identity("12.2.0", "x86_64-linux-gnu", "(Debian 12.2.0-14) 12.2.0")
    check_same("gcc", here, here, "w1")
    for there in (
        Identity("13.1.0", "x86_64-linux-gnu", "(Debian 13.1.0-1) 13.1.0"),
        Identity("12.2.0", "aarch64-linux-gnu", "(Debian 12.2.0-14) 12.2.0"),
        Identity("12.2.0", "x86_64-linux-gnu", "(Other 12.2.0-3) 12.2.0"),
    ):
        with pytest.raises(OtherCompilerError) as caught:
            check_same("gcc", here, there, "w1")
        assert f"gcc on w1 is {there}, but on this machine {here}" in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        ["-O3", "-march=native"],
        ["-march=native", "-mtune=generic", "-O3"],
        ["-O3", "-ftree-vectorize", "-mno-avx", "-mtune=native"],
        ["-march=native", "-mno-avx2", "-mtune=native", "-O2", "-ffast-math"],
    ],
)
def test_objects_are_the_same_when_the_processor_is_named(options: list[str], tmp_path: Path) -> None:
    gcc = program("gcc", "gcc")
    source = tmp_path / "sum.c"
    source.write_text(
        "float f(float *a, int n) { float s = 0; for (int i = 0; i < n; i++) s += a[i] * a[i]; return s; }\n"
    )
    words = [gcc, *options, "-c", "sum.c"]
    expanded = expand_native(words, ENVIRONMENT)
    assert is_native(words) and not is_native(expanded)
    objects = []
    for command in (words, expanded):
        subprocess.run(command, cwd=tmp_path, check=True)
        objects.append((tmp_path / "sum.o").read_bytes())
    assert objects[0] == objects[1]


def test_what_names_no_native_processor_stays_as_it_is() -> None:
    words = ["gcc", "-O2", "-march=x86-64", "-c", "x.c"]
    assert expand_native(words, ENVIRONMENT) == words
    clang = [program("clang", "clang"), "-march=native", "-c", "x.c"]
    assert expand_native(clang, ENVIRONMENT) == clang
