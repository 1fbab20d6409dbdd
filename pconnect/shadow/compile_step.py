"""One compile step: preprocess here, compile on another machine, write the object here.

A step has one of two outcomes. Either it is done: there is an exit status, the output that a local compiler would have
written to its two streams, and the files. Or it must be run here, for a stated reason. Then nothing was written but the
dependency file, which a local compiler overwrites.

An error in the source is the user's: the step is done, and reports the messages of the compiler. A fault of the other
machine, such as a compiler that crashed or ran out of memory, is a reason to run the step here.
"""

import errno
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pconnect.shadow.compiler_versions import OtherCompilerError, expand_native
from pconnect.shadow.compiler_words import HERE_THERE, Away, Family, Form, Here, decide
from pconnect.shadow.response_files import expand
from pconnect.shadow.source.given import Given, as_files, as_one_text
from pconnect.shadow.source.preprocessed_text import directory_of, tied_to_this_machine

#: The name of the object in the folder on the other machine.
OBJECT = "object.o"
#: Environment variables that change the text of diagnostics. They are passed to the other machine.
OF_MESSAGES = "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES"

#: Environment variables that make a compiler run other programs or write more files.
OF_COMPILERS = (
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "GCC_COMPARE_DEBUG",
    "CCC_OVERRIDE_OPTIONS",
    "DEPENDENCIES_OUTPUT",
    "SUNPRO_DEPENDENCIES",
)

# Compiler messages whose cause is not the source: faults of the compiler, and a lack of memory, space or files. (The
# preprocessor found all files here.) The patterns must not match source lines, which the compiler also shows.
_MACHINE_FAULT = re.compile(
    rb"^(?:[^\s:]+:(?:\d+:)* )?internal compiler error|^PLEASE submit a bug report|^virtual memory exhausted"
    rb"|^(?:[^\s:]*(?:gcc|g\+\+|cc1\w*|clang\S*|as|ld)|(?:fatal )?error|LLVM ERROR|\{standard input\}|[^\s:]+\.\w+): "
    rb".*(?:out of memory|No space left on device|Cannot allocate memory|Killed signal terminated program"
    rb"|fatal error: (?:Killed|cannot execute|error writing to))"
    rb"|^(?:\S+: )?error: error reading '"
    rb"|^[^\s:]+:(?:\d+:\d+:)? fatal error: .*(?: file not found|No such file or directory)$",
    re.MULTILINE,
)
# One diagnostic: the chain of includes, the message, and all lines up to the next message.
_DIAGNOSTIC = re.compile(
    rb"(?:^In file included from .*\n(?:^ +from .*\n)*)?"
    rb"^.*:\d+:\d+: .*\n(?:^(?!In file included from |.*:\d+:\d+: ).*\n)*",
    re.MULTILINE,
)


class NoServerError(Exception):
    """Raised by a `Remote` that had no machine for a step or lost the machine. The text gives the reason."""


@dataclass(frozen=True)
class RemoteEnd:
    """The result of a program on another machine.

    Attributes
    ----------
    status
        Its exit status, or 128 plus the number of the signal that ended it.
    stdout, stderr
        Its output.
    outputs
        The files that it left in its folder, by name.
    host
        The machine that ran it.
    """

    status: int
    stdout: bytes
    stderr: bytes
    outputs: Mapping[str, bytes]
    host: str


class Remote(Protocol):
    """A program on another machine, in a folder of its own."""

    def run(
        self,
        words: Sequence[str],
        source: bytes,
        *,
        files: Mapping[str, bytes],
        environment: Mapping[str, str],
        output: str,
    ) -> RemoteEnd:
        """Run `words` there with `source` as standard input; return the result and the file `output`.

        Its folder contains only `files`, by relative names. `environment` is added to the environment of programs
        there.

        Raises
        ------
        NoServerError
            No machine ran the program to its end.
        """


@dataclass(frozen=True)
class Outcome:
    """The outcome of a step.

    Attributes
    ----------
    status
        Its exit status; ``None`` if the step must be run here.
    stdout, stderr
        The output that a local compiler would have written.
    host
        The machine that compiled it; ``None`` if the step must be run here, or if the preprocessor rejected it.
    why
        Why the step must be run here.
    fallback
        Whether the step must be run here because the other machine failed.
    """

    status: int | None
    stdout: bytes = b""
    stderr: bytes = b""
    host: str | None = None
    why: str = ""
    fallback: bool = False


@dataclass(frozen=True)
class Step:
    """A compiler command and its surroundings.

    Attributes
    ----------
    words
        All words; the first is the compiler.
    cwd, environment
        The working folder and the environment variables of the caller.
    family
        The family of the compiler.
    colors
        Whether its standard error is a terminal, on which a local compiler may use colors.
    expand_native
        Whether to replace ``-march=native`` and similar options by their meaning for GCC on this machine.
    umask
        The caller's umask, for files written here.
    """

    words: Sequence[str]
    cwd: str
    family: Family = Family.GCC
    environment: Mapping[str, str] = field(default_factory=dict)
    colors: bool = False
    expand_native: bool = False
    umask: int = 0o022


def run_step(step: Step, remote: Remote) -> Outcome:
    """Run a compile step on another machine, if possible.

    Blocks until the preprocessor here and the compiler there have finished. The object is replaced atomically: other
    processes see the old one or the new one.

    Raises
    ------
    OSError
        The compiler cannot be started here, or the object cannot be written. The old object is unchanged.
    """
    if named := [name for name in OF_COMPILERS if step.environment.get(name)]:
        return Outcome(None, why=f"the variable {named[0]} changes what the compiler does")
    try:
        words = expand(step.words, step.cwd)
        expanded = expand_native(words, step.environment) if step.expand_native else words
    except (ValueError, OtherCompilerError) as error:
        return Outcome(None, why=str(error))
    away = decide(expanded, step.family)
    if isinstance(away, Here):
        return Outcome(None, why=away.why)
    if away.debug and expanded != words:
        return Outcome(None, why="-g records options in another order when -march=native is expanded")
    place = Path(step.cwd, away.output)
    if not (place.parent.is_dir() and _is_replaceable(place)):
        return Outcome(None, why=f"{away.output} cannot be written as a regular file")
    return _preprocess(step, away, place, remote)


def _is_replaceable(place: Path) -> bool:
    """Return whether an object can be written as a local compiler does: over a file, nothing, or the null device.

    Links are refused: some compilers keep them, and a link such as /dev/stdout may lead elsewhere in this process than
    in the caller. Named pipes are refused because writing waits for a reader.
    """
    if place.parent.resolve().parts[:2] in {("/", "dev"), ("/", "proc")} and place != Path(os.devnull):
        return False  # it may be a descriptor of the caller
    try:
        facts = place.lstat()
    except OSError:
        return True  # the path does not exist; a failure to write is reported later
    if stat.S_ISCHR(facts.st_mode):
        return facts.st_rdev == Path(os.devnull).stat().st_rdev
    return stat.S_ISREG(facts.st_mode)


def _preprocess(step: Step, away: Away, place: Path, remote: Remote) -> Outcome:
    """Run the preprocessor here, then compile its output."""
    ended = _run(step, _colored(step, away.preprocess))
    if ended.returncode < 0 or b"-fdirectives-only" in ended.stderr:
        return Outcome(None, why="the preprocessor failed, or cannot keep macros unexpanded in this source")
    if ended.returncode:
        return Outcome(ended.returncode, stderr=ended.stderr)
    command = "\n".join(away.command).encode(errors="surrogateescape")
    if why := tied_to_this_machine(ended.stdout) or tied_to_this_machine(command, "the command"):
        return Outcome(None, why=why)
    # Clang processes all directives again, so it repeats all warnings. GCC processes only the remaining directives.
    warnings = b"" if away.family is Family.CLANG else ended.stderr
    return _compile(step, away, place, ended.stdout, remote, warnings=warnings)


def _compile(step: Step, away: Away, place: Path, text: bytes, remote: Remote, *, warnings: bytes) -> Outcome:
    """Compile preprocessed source on another machine, and write the object. `warnings`: the preprocessor's output."""
    directory = directory_of(text)
    if away.form is Form.SOURCE and not directory:
        return Outcome(None, why="the preprocessor does not name the folder for debugging information")
    try:
        given = _given(step, away, directory, text)
    except ValueError as error:
        return Outcome(None, why=str(error))
    environment = {name: step.environment.get(name, "") for name in OF_MESSAGES}  # instead of the server's
    if "GCC_COLORS" in step.environment:
        environment["GCC_COLORS"] = step.environment["GCC_COLORS"]
    environment["PWD"] = HERE_THERE
    try:
        end = remote.run(given.words, given.source, files=given.files, environment=environment, output=OBJECT)
    except NoServerError as error:
        return Outcome(None, why=str(error), fallback=True)
    said = replace(end, stderr=given.with_old_names(end.stderr))
    return _finish(away, place, said, warnings + given.warnings, step.umask)


def _run(step: Step, words: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a compiler here, in the user's folder and environment."""
    return subprocess.run(
        words,
        cwd=step.cwd,
        env=step.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        umask=step.umask,
        check=False,
    )


def _given(step: Step, away: Away, directory: str, text: bytes) -> Given:
    """Return the input for the other machine; raise `ValueError` if the step must be run here."""

    def read(name: str) -> bytes | None:
        try:
            return Path(step.cwd, name).read_bytes()
        except (OSError, ValueError):
            return None

    if away.form is Form.FILES:
        words = [*_colored(step, away.command), "-###", "-x", away.language, "-c", away.source, "-o", OBJECT]
        shown = _run(step, words).stderr.decode("utf-8", "surrogateescape")
        return as_files(away, shown, step.cwd, text, read)
    given = as_one_text(away, OBJECT, directory, text, read)
    return replace(given, words=_colored(step, given.words))


def _colored(step: Step, words: Sequence[str]) -> list[str]:
    """Ask for colors where a local compiler would use them. Options of the command itself take precedence."""
    variables = step.environment
    if not step.colors or variables.get("TERM", "dumb") == "dumb" or variables.get("NO_COLOR"):
        return list(words)
    return [words[0], "-fdiagnostics-color=always", *words[1:]]


def _finish(away: Away, place: Path, end: RemoteEnd, warnings: bytes, umask: int) -> Outcome:
    """Write the object, if there is one. `warnings`: the output of the preprocessor here."""
    missing = end.status == 0 and OBJECT not in end.outputs
    if missing or end.status >= 125 or (end.status and _MACHINE_FAULT.search(end.stderr)):
        said = end.stderr.decode("utf-8", "replace").strip().splitlines()
        why = f"{away.compiler} on {end.host} ended with status {end.status}: {said[-1] if said else 'no object'}"
        return Outcome(None, why=why, fallback=True)
    if end.status == 0:
        write_object(place, end.outputs[OBJECT], umask)
    elif away.family is Family.CLANG and place.is_file():
        place.unlink()  # as Clang does
    return Outcome(end.status, end.stdout, merged(warnings, end.stderr), end.host)


def merged(first: bytes, then: bytes) -> bytes:
    """Join the messages of GCC's two steps. Both read the same directives, so repeated messages are dropped."""
    known = set(_DIAGNOSTIC.findall(first))
    return first + _DIAGNOSTIC.sub(lambda found: b"" if found[0] in known else found[0], then)


def write_object(place: Path, data: bytes, umask: int) -> None:
    """Write an object as an assembler does: replace a file by a new one, but write into a device.

    Raises
    ------
    OSError
        It cannot be written. The old file is unchanged.
    """
    if not _is_replaceable(place):
        raise FileExistsError(errno.EEXIST, "it is no longer a regular file", str(place))
    if place.exists() and not place.is_file():
        place.write_bytes(data)
        return
    with tempfile.TemporaryDirectory(prefix=f".{place.name[:100]}.", dir=place.parent) as folder:
        new = Path(folder, "new")
        new.write_bytes(data)
        new.chmod(0o666 & ~umask)  # the caller's umask, which may differ from that of this process
        new.replace(place)
