"""One compile step: preprocessed here, compiled on another machine, its object written here.

What comes of a step is one of two things. It is done: there are a status, what a local compiler would have written to
its two streams, and the files. Or it is to be run here, for a reason; then nothing was written but the file of
dependencies, which a local compiler writes again.

A mistake in the source is the user's: it is reported as the compiler there reported it, and the step is done. What
points to the machine there, such as a compiler that crashed or found no memory, is a reason to run it here.
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

#: The name of the object in the folder of the machine that compiles.
OBJECT = "object.o"
#: Variables that change the words of diagnostics, and so go along.
OF_MESSAGES = "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES"

#: Variables with which a compiler is another one, or writes more files.
OF_COMPILERS = (
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "GCC_COMPARE_DEBUG",
    "CCC_OVERRIDE_OPTIONS",
    "DEPENDENCIES_OUTPUT",
    "SUNPRO_DEPENDENCIES",
)

# What a compiler says of which the source is not the reason: faults of its own, and a lack of something. The
# preprocessor has found all files here. Lines of the source, which are shown as well, must not be taken for it.
_TROUBLE = re.compile(
    rb"^(?:[^\s:]+:(?:\d+:)* )?internal compiler error|^PLEASE submit a bug report|^virtual memory exhausted"
    rb"|^(?:[^\s:]*(?:gcc|g\+\+|cc1\w*|clang\S*|as|ld)|(?:fatal )?error|LLVM ERROR|\{standard input\}|[^\s:]+\.\w+): "
    rb".*(?:out of memory|No space left on device|Cannot allocate memory|Killed signal terminated program"
    rb"|fatal error: (?:Killed|cannot execute|error writing to))"
    rb"|^(?:\S+: )?error: error reading '"
    rb"|^[^\s:]+:(?:\d+:\d+:)? fatal error: .*(?: file not found|No such file or directory)$",
    re.MULTILINE,
)
# What is said about one place: where it was included from, and all up to the next place.
_DIAGNOSTIC = re.compile(
    rb"(?:^In file included from .*\n(?:^ +from .*\n)*)?"
    rb"^.*:\d+:\d+: .*\n(?:^(?!In file included from |.*:\d+:\d+: ).*\n)*",
    re.MULTILINE,
)


class NoServerError(Exception):
    """Raised by a `Remote` that had no machine for a step, or lost it. Its text says why."""


@dataclass(frozen=True)
class RemoteEnd:
    """How a program ended on another machine.

    Attributes
    ----------
    status
        Its exit status, or 128 and the signal that ended it.
    stdout, stderr
        What it wrote.
    outputs
        The files that it left in its folder, by name.
    host
        Where it ran.
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
        """Run `words` there with `source` as standard input, and return how it ended, with the file `output`.

        The folder has `files` in it, by relative names, and nothing else. `environment` is added to what programs
        have there.

        Raises
        ------
        NoServerError
            No machine has run it to its end.
        """


@dataclass(frozen=True)
class Outcome:
    """What came of a step.

    Attributes
    ----------
    status
        Its exit status; ``None``: it is to be run here.
    stdout, stderr
        What a local compiler would have written.
    host
        Where it was compiled; ``None``: here, or nowhere because the preprocessor refused it.
    why
        Why it is to be run here.
    fallback
        Whether it was meant to go away, and is to be run here because that failed.
    """

    status: int | None
    stdout: bytes = b""
    stderr: bytes = b""
    host: str | None = None
    why: str = ""
    fallback: bool = False


@dataclass(frozen=True)
class Step:
    """A command of a compiler, and where it was given.

    Attributes
    ----------
    words
        All words, with the compiler as the first.
    cwd, environment
        The folder and the variables that it was given.
    family
        Whose options the compiler has.
    colors
        Whether its standard error is a terminal. If it has colors, a local compiler uses them.
    expand_native
        Whether ``-march=native`` and the like are replaced by what GCC means by them on this machine.
    umask
        Of who has given it, for the files that are written here.
    """

    words: Sequence[str]
    cwd: str
    family: Family = Family.GCC
    environment: Mapping[str, str] = field(default_factory=dict)
    colors: bool = False
    expand_native: bool = False
    umask: int = 0o022


def run_step(step: Step, remote: Remote) -> Outcome:
    """Run a compile step on another machine, if it can be.

    The call lasts as long as the preprocessor here and the compiler there. The object is put in its place in one
    go: whoever looks sees the old one or the new one.

    Raises
    ------
    OSError
        The compiler cannot be started here, or the object cannot be written. The old object is as it was.
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
        return Outcome(None, why=f"there is no place for {away.output}")
    return _preprocess(step, away, place, remote)


def _is_replaceable(place: Path) -> bool:
    """Whether an object can be put in a place as a local compiler does: there is a file, nothing, or the null device.

    A link stays a link for some compilers, and what it leads to may be another thing here than for who calls us, as
    with /dev/stdout. A named pipe waits for its reader.
    """
    if place.parent.resolve().parts[:2] in {("/", "dev"), ("/", "proc")} and place != Path(os.devnull):
        return False  # the descriptors of who calls us
    try:
        facts = place.lstat()
    except OSError:
        return True  # there is nothing; that it cannot be written shows later
    if stat.S_ISCHR(facts.st_mode):
        return facts.st_rdev == Path(os.devnull).stat().st_rdev
    return stat.S_ISREG(facts.st_mode)


def _preprocess(step: Step, away: Away, place: Path, remote: Remote) -> Outcome:
    """Run the preprocessor here, then go on with what it wrote."""
    ended = _run(step, _colored(step, away.preprocess))
    if ended.returncode < 0 or b"-fdirectives-only" in ended.stderr:
        return Outcome(None, why="the preprocessor failed, or cannot leave macros as they are in this source")
    if ended.returncode:
        return Outcome(ended.returncode, stderr=ended.stderr)
    command = "\n".join(away.command).encode(errors="surrogateescape")
    if why := tied_to_this_machine(ended.stdout) or tied_to_this_machine(command, "the command"):
        return Outcome(None, why=why)
    # Clang reads all directives once more, GCC those that are left.
    warnings = b"" if away.family is Family.CLANG else ended.stderr
    return _compile(step, away, place, ended.stdout, remote, warnings=warnings)


def _compile(step: Step, away: Away, place: Path, text: bytes, remote: Remote, *, warnings: bytes) -> Outcome:
    """Have preprocessed source compiled, and write the object. `warnings`: what the preprocessor has said."""
    directory = directory_of(text)
    if away.form is Form.SOURCE and not directory:
        return Outcome(None, why="the preprocessor does not name the folder for debugging information")
    try:
        given = _given(step, away, directory, text)
    except ValueError as error:
        return Outcome(None, why=str(error))
    environment = {name: step.environment.get(name, "") for name in OF_MESSAGES}  # not those of the server
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
    """Run a compiler here, as the user would."""
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
    """Return what the other machine is given; raise `ValueError` if the step must be run here."""

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
    """Return a command with colors where a local compiler would use them, if its own options do not say it."""
    variables = step.environment
    if not step.colors or variables.get("TERM", "dumb") == "dumb" or variables.get("NO_COLOR"):
        return list(words)
    return [words[0], "-fdiagnostics-color=always", *words[1:]]


def _finish(away: Away, place: Path, end: RemoteEnd, warnings: bytes, umask: int) -> Outcome:
    """Write the object, if there is one. `warnings`: what the preprocessor wrote here."""
    missing = end.status == 0 and OBJECT not in end.outputs
    if missing or end.status >= 125 or (end.status and _TROUBLE.search(end.stderr)):
        said = end.stderr.decode("utf-8", "replace").strip().splitlines()
        why = f"{away.compiler} on {end.host} ended with status {end.status}: {said[-1] if said else 'no object'}"
        return Outcome(None, why=why, fallback=True)
    if end.status == 0:
        write_object(place, end.outputs[OBJECT], umask)
    elif away.family is Family.CLANG and place.is_file():
        place.unlink()  # as Clang does
    return Outcome(end.status, end.stdout, merged(warnings, end.stderr), end.host)


def merged(first: bytes, then: bytes) -> bytes:
    """Return what GCC said in two steps, without what the second said again: both read the same directives."""
    known = set(_DIAGNOSTIC.findall(first))
    return first + _DIAGNOSTIC.sub(lambda found: b"" if found[0] in known else found[0], then)


def write_object(place: Path, data: bytes, umask: int) -> None:
    """Write an object as an assembler does: a new file instead of an old one, but into a device.

    Raises
    ------
    OSError
        It cannot be written. What was there before is still there.
    """
    if not _is_replaceable(place):
        raise FileExistsError(errno.EEXIST, "it has become something else than a file", str(place))
    if place.exists() and not place.is_file():
        place.write_bytes(data)
        return
    with tempfile.TemporaryDirectory(prefix=f".{place.name[:100]}.", dir=place.parent) as folder:
        new = Path(folder, "new")
        new.write_bytes(data)
        new.chmod(0o666 & ~umask)  # not by the umask of this process, which may work for others
        new.replace(place)
