"""Compare the compilers of this machine and of a node: only the same compiler makes the same objects.

The name is not enough: ``cc`` may be GCC on one machine and Clang on another. So this module compares the compilers'
own descriptions of themselves.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pconnect.errors import ConfigurationError
from pconnect.shadow.compiler_options import NATIVE
from pconnect.shadow.compiler_words import Family

#: Runs a compiler with arguments, and returns its exit status and standard output.
Run = Callable[[Sequence[str]], tuple[int, bytes]]

_OF_INSTRUCTIONS = re.compile(r"-m|--param=|-f")


class OtherCompilerError(ConfigurationError):
    """The compiler of a node differs from the one of this machine, or is missing."""


@dataclass(frozen=True)
class Identity:
    """A compiler's description of itself.

    Attributes
    ----------
    version
        Its version, such as ``12.2.0``.
    machine
        The machine that it compiles for, such as ``x86_64-linux-gnu``.
    build
        The first line of ``--version`` without the program's name. It names the distribution's package.
    tools
        GCC only: the assembler, which writes its objects, and a hash of the built-in defaults.
    """

    version: str
    machine: str
    build: str
    tools: str = ""

    @property
    def family(self) -> Family:
        """The compiler family, which determines the options."""
        return Family.CLANG if "clang" in self.build.lower() else Family.GCC

    def __str__(self) -> str:
        return f"{self.build} for {self.machine}{self.tools and f' with {self.tools}'}"


def identity(compiler: str, run: Run) -> Identity:
    """Return a compiler's description of itself.

    Parameters
    ----------
    compiler
        Its name or path.
    run
        Runs it, here or on a node.

    Raises
    ------
    OtherCompilerError
        The program does not answer like a compiler.
    """
    status, output = run([compiler, "--version"])
    lines = output.decode("utf-8", "replace").splitlines()
    if status or not lines:
        raise OtherCompilerError(
            f"{compiler} --version ended with status {status}: is it a C or C++ compiler?"
        )
    build = _without_program(lines[0])
    asked = [["-dumpversion"], ["-dumpmachine"]]
    if "clang" not in build.lower():
        asked[0].insert(0, "-dumpfullversion")
    answers = [run([compiler, *words]) for words in asked]
    if any(status for status, _ in answers):
        raise OtherCompilerError(
            f"{compiler} is not a compiler like GCC or Clang: it does not know -dumpmachine"
        )
    version, machine = (answer.decode("utf-8", "replace").strip() for _, answer in answers)
    return Identity(version, machine, build, "" if "clang" in build.lower() else _tools(compiler, run))


def _tools(compiler: str, run: Run) -> str:
    null = os.devnull
    _, said = run([compiler, "-Wa,--version", "-x", "assembler", "-c", null, "-o", null])
    _, specs = run([compiler, "-dumpspecs"])
    assembler = said.decode("utf-8", "replace").partition("\n")[0]
    return f"{assembler}, specs {hashlib.sha256(specs).hexdigest()[:8]}"


def _without_program(line: str) -> str:
    """Return the first line of ``--version`` without the name under which GCC was called."""
    name, _, rest = line.partition(" ")
    return rest if rest.startswith("(") else f"{name} {rest}"


def identity_here(compiler: str, environment: Mapping[str, str]) -> Identity:
    """Return the description of a compiler on this machine. The answer is cached until the compiler's file changes.

    Raises
    ------
    OtherCompilerError
        There is no such compiler, or the program does not answer like one.
    """
    path = shutil.which(compiler, path=environment.get("PATH", os.defpath))
    if path is None:
        raise OtherCompilerError(f"there is no {compiler} on this machine: is it in PATH?")
    status = Path(path).stat()  # follows links
    return _identity_of_file(path, status.st_mtime_ns, status.st_size, tuple(sorted(environment.items())))


@lru_cache(maxsize=64)
def _identity_of_file(
    path: str,
    mtime: int,  # noqa: ARG001 - part of the cache key
    size: int,  # noqa: ARG001 - part of the cache key
    environment: tuple[tuple[str, str], ...],
) -> Identity:
    def run(words: Sequence[str]) -> tuple[int, bytes]:
        # The answer must not depend on the user's language.
        variables = {**dict(environment), "LC_ALL": "C"}
        ended = subprocess.run(
            words, env=variables, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return ended.returncode, ended.stdout

    return identity(path, run)


def check_same(compiler: str, here: Identity, there: Identity, host: str) -> None:
    """Refuse a node whose compiler differs.

    Raises
    ------
    OtherCompilerError
        The compilers differ. The message describes both.
    """
    if here != there:
        raise OtherCompilerError(
            f"objects would differ: {compiler} on {host} is {there}, but on this machine {here}; "
            f"install the same package on {host}"
        )


def is_native(words: Sequence[str]) -> bool:
    """Return whether a command chooses instructions for the processor of the machine that runs it."""
    return any(NATIVE.match(word) for word in words)


def expand_native(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Replace ``-march=native`` and similar options of a GCC command by their meaning on this machine.

    The object stays the same, byte for byte, unless it has debugging information, which records options in order.
    Commands of Clang are returned unchanged: options of its driver cannot express the meaning.

    Raises
    ------
    OtherCompilerError
        The compiler does not show the meaning.
    """
    native = [word for word in words if NATIVE.match(word)]
    if not native or identity_here(words[0], environment).family is Family.CLANG:
        return list(words)
    meant = _shown([words[0], *native], environment)
    usual = _shown([words[0]], environment)
    expanded = [word for word in meant if word not in usual]
    first = next(place for place, word in enumerate(words) if NATIVE.match(word))
    rest = [word for word in words[first:] if not NATIVE.match(word)]
    return [*words[:first], *expanded, *rest]


def _shown(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the options that choose instructions, in the order in which the compiler proper gets them."""
    asked = [*words, "-E", "-###", "-x", "c", os.devnull]
    ended = subprocess.run(
        asked,
        env={**environment, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    lines = [line for line in ended.stderr.decode("utf-8", "replace").splitlines() if "/cc1" in line]
    if ended.returncode or not lines:
        raise OtherCompilerError(f"{shlex.join(asked)} does not show the command of the compiler proper")
    shown = shlex.split(lines[0])
    joined = [
        f"--param={then}" if word == "--param" else word
        for word, then in zip(shown, [*shown[1:], ""], strict=True)
    ]
    return [word for word in joined if _OF_INSTRUCTIONS.match(word)]
