"""Programs instead of functions: `program` makes templates that `submit` and `map` accept, and that can be called."""

import os
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Never

from pconnect.errors import ConfigurationError
from pconnect.executors.executor import JobMaker
from pconnect.files.listing import is_inner_name, list_tree
from pconnect.jobs.job import Job, JobOptions
from pconnect.programs.completed import CompletedProgram
from pconnect.programs.program import CapturedProgram, PathLike, prepare
from pconnect.programs.run_here import run_here, run_in_folder
from pconnect.scheduler.scheduler import Scheduler


def program(
    words: Sequence[PathLike],
    *,
    input: bytes | str | None = None,  # noqa: A002 - its name in the module `subprocess`
    cwd: PathLike | None = None,
    env: Mapping[str, str] | None = None,
    text: bool = False,
    check: bool = True,
    files: PathLike | Sequence[PathLike] = (),
    outputs: str | Sequence[str] | None = None,
) -> "ProgramTemplate":
    r"""Make a program callable like a function, for `submit`, `map`, executors, and direct calls on this machine.

    Each call runs in its own private folder, which contains only `files` at first. The files that the program leaves
    there come back, and the folder is removed. The job takes a slot; its result is a `CompletedProgram`.

    Parameters
    ----------
    words
        The name of the program and its arguments, without a shell. In each word, ``{}``, ``{0}``, ``{name}`` and
        ``{:.3f}`` stand for arguments of the call, as in `str.format`; write ``{{`` and ``}}`` for braces. If no word
        has a placeholder, the arguments of the call are appended. A relative path such as ``./sim`` refers to your
        current folder, and to the same path on the node, unless it is one of `files`.
    input
        Its standard input; empty by default.
    cwd
        The absolute path of a working folder for all calls, instead of private folders. No files come back.
    env
        Variables to add to the environment of the node.
    text
        Whether to decode its output as UTF-8 text.
    check
        Whether a nonzero exit status is an error of the call, like an exception of a function, so that no item of a map
        fails unnoticed. With ``False``, check ``returncode`` yourself.
    files
        Local files and folders to send with each call. A relative path stays the same in the private folder; an
        absolute one is reduced to its last part. They may contain placeholders, too.
    outputs
        Names or patterns, such as ``"*.dat"``, of files that come back; by default all new and changed files.

    Returns
    -------
    ProgramTemplate
        A direct call of it runs the program on this machine, and returns a `CompletedProgram`.

    Raises
    ------
    ConfigurationError
        A word has braces that are not a placeholder, or `files` or `outputs` are given together with `cwd`. As the
        error of a job: the arguments do not match the placeholders, or a file cannot be read.

    Examples
    --------
    >>> from pconnect import local_network, program
    >>> power = program(["sh", "-c", "echo $(($1 * $1)) | tee square-$1", "sh", "{}"], text=True)
    >>> power(3).stdout
    '9\n'
    >>> with local_network(2) as net:
    ...     [done.stdout for done in net.map(power, range(4))]
    ...     job = net.submit(power, 5)
    ...     job.result().stdout, dict(job.outputs)
    ['0\n', '1\n', '4\n', '9\n']
    ('25\n', {'square-5': b'25\n'})
    """
    if isinstance(words, str | bytes) or not words:
        raise ConfigurationError(f"{words!r}: give a program and its arguments as a list, as in ['ls', '-l']")
    paths = [files] if isinstance(files, str | bytes | os.PathLike) else list(files)
    wanted = [outputs] if isinstance(outputs, str) else outputs
    if cwd is not None and (paths or wanted is not None):
        raise ConfigurationError("files and outputs are for programs in private folders: leave out cwd")
    for word in (*words, *paths):
        for field in _placeholders(word):
            if field and not field.isdigit() and not field.isidentifier():
                raise ConfigurationError(
                    f"{os.fsdecode(word)!r}: {{{field}}} is not a placeholder; write {{{{ and }}}} for braces"
                )
    data = input.encode() if isinstance(input, str) else input
    return ProgramTemplate(
        tuple(words),
        data,
        cwd,
        dict(env or {}),
        text,
        check,
        tuple(paths),
        None if wanted is None else tuple(wanted),
    )


@dataclass(frozen=True, eq=False)
class ProgramTemplate(JobMaker):
    """A program that gets its arguments from each call; see `program`."""

    words: tuple[PathLike, ...]
    input: bytes | None
    cwd: PathLike | None
    env: Mapping[str, str]
    text: bool
    check: bool
    files: tuple[PathLike, ...]
    outputs: tuple[str, ...] | None

    def __repr__(self) -> str:
        return f"program({[os.fsdecode(word) for word in self.words]})"

    def __reduce__(self) -> Never:
        raise ConfigurationError(
            f"{self!r} cannot be called inside a job; pass it to submit() or map() itself, which run it as a job"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> CompletedProgram:
        """Run the program on this machine, and wait for its end.

        Raises
        ------
        OSError
            The program could not be started.
        ProgramFailedError
            `check` is true, and the exit status is not 0.
        """
        words, files = self._call(args, kwargs)
        if self.cwd is not None:
            return run_here(
                words, self.input, None, cwd=self.cwd, env=self.env, text=self.text, check=self.check
            )
        return run_in_folder(
            words, self.input, files, self.outputs, env=self.env, text=self.text, check=self.check
        )

    def make_job(
        self,
        scheduler: Scheduler,
        options: JobOptions,
        max_message_bytes: int,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Job:
        """Return the job of one call; see `pconnect.executors.executor.JobMaker`."""
        if options.memory_limit is not None:
            raise ConfigurationError(
                "memory_limit is for functions; start the program through a shell with `ulimit -v`"
            )
        words, files = self._call(args, kwargs)
        is_private = self.cwd is None
        job = prepare(
            scheduler,
            words,
            replace(options, time_limit=None),
            max_message_bytes,
            cwd=self.cwd,
            env=self.env,
            seconds=options.time_limit,
            has_input=self.input is not None,
            folder=is_private,
            files=files if is_private else None,
            outputs=self.outputs,
        )
        captured = CapturedProgram(job, self.input or b"", is_text=self.text)
        job.conclude = lambda told: captured.completed(told, check=self.check)
        return job

    def _call(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[PathLike], dict[str, tuple[int, bytes]]]:
        """Return the words of one call, and the files to send with it."""
        arguments = _Arguments(args, kwargs)
        words = [arguments.fill(word) for word in self.words]
        paths = [arguments.fill(path) for path in self.files]
        words += arguments.rest()
        files = _read(paths)
        name = os.fsdecode(words[0])
        if self.cwd is None and "/" in name and Path(name).as_posix() not in files:
            words[0] = Path.cwd() / name
        return words, files


def _placeholders(word: PathLike) -> Iterator[str]:
    """Yield the placeholders of a word; raise `ConfigurationError` if its braces are invalid."""
    if isinstance(word, bytes):
        return
    try:
        for _, field, _, _ in string.Formatter().parse(os.fsdecode(word)):
            if field is not None:
                yield field
    except ValueError as error:
        raise ConfigurationError(f"{os.fsdecode(word)!r}: {error}; write {{{{ and }}}} for braces") from None


class _Arguments:
    """The arguments of one call, for the placeholders of all its words."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._values: dict[int | str, Any] = dict(enumerate(args))
        self._values.update(kwargs)
        self._used: set[int | str] = set()
        self._next = 0

    def fill(self, word: PathLike) -> PathLike:
        """Replace the placeholders of a word by arguments."""
        if isinstance(word, bytes):
            return word
        return "".join(
            literal if field is None else literal + self._shown(field, spec or "", conversion)
            for literal, field, spec, conversion in string.Formatter().parse(os.fsdecode(word))
        )

    def _shown(self, field: str, spec: str, conversion: str | None) -> str:
        key: int | str = int(field) if field.isdigit() else field
        if key == "":
            key, self._next = self._next, self._next + 1
        if key not in self._values:
            raise ConfigurationError(f"{{{field}}}: the call has no argument for this placeholder")
        self._used.add(key)
        try:
            return format(string.Formatter().convert_field(_plain(self._values[key]), conversion), spec)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{{{field}}}: {error}") from None

    def rest(self) -> list[Any]:
        """Return the unused arguments, to be appended if there are no placeholders.

        Raises `ConfigurationError` if there are placeholders, or an unused argument has a name.
        """
        left = [key for key in self._values if key not in self._used]
        if left and (self._used or not all(isinstance(key, int) for key in left)):
            raise ConfigurationError(
                f"argument {left[0]!r} of the call has no placeholder; add {{{left[0]}}} to a word"
            )
        return [format(_plain(self._values[key])) for key in left]


def _plain(value: Any) -> Any:
    return os.fsdecode(value) if isinstance(value, bytes | os.PathLike) else value


def _read(paths: Sequence[PathLike]) -> dict[str, tuple[int, bytes]]:
    """Read files and folders; return permissions and contents by name in the private folder."""
    found: dict[str, tuple[int, bytes]] = {}
    for given in paths:
        path = Path(os.fsdecode(given))
        name = path.as_posix() if is_inner_name(path.as_posix()) else path.resolve().name
        try:
            for facts in list_tree(path).files:
                inner = f"{name}/{facts.name}" if facts.name else name
                found[inner] = facts.mode & 0o777, (path / facts.name).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"files: {path}: {error.strerror}") from error
    return found
