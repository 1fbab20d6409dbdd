"""The magic ``%%pxscript``: run a program on the nodes with the cell as its input, like ``%%script`` of IPython."""

import shlex
import sys
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from pconnect.commands.console import Console, Source
from pconnect.errors import ConfigurationError, JobLostError
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobCancelledError, JobOptions
from pconnect.programs.completed import CompletedProgram, ProgramFailedError
from pconnect.programs.program import ProgramJob, prepare
from pconnect.programs.watched import Watched
from pconnect.session.remote_calls import mesh_of
from pconnect.views.network_views import ClientNetwork


@magics_class
class ScriptMagics(Magics):
    """The magic of one shell. `find`: returns the nodes that a text names; without a text, those of ``%pxconfig``."""

    def __init__(self, shell: InteractiveShell, find: Callable[[str | None], ClientNetwork]) -> None:
        super().__init__(shell=shell)
        self._find = find

    @magic_arguments()
    @argument("-t", "--targets", help="nodes: all, numbers (1,3), a slice (1:3), or a host")
    @argument("--one", action="store_true", help="run on one node only: the first one with a free slot")
    @argument(
        "--cwd", metavar="DIR", help="folder on the node to run in; default: the same folder as the notebook"
    )
    @argument("--time-limit", type=float, metavar="SECONDS", help="end the program after this time")
    @argument("--no-raise-error", action="store_true", help="do not raise an error if a program fails")
    @argument(
        "words", nargs="...", metavar="PROGRAM", help="the program and its arguments, quoted as in a shell"
    )
    @line_cell_magic
    def pxscript(self, line: str, cell: str = "") -> None:
        """Run a program on the nodes: ``%pxscript hostname``; with ``%%pxscript`` the cell is its standard input."""
        # Not split as in other magics, which leave quotes in the words.
        options = self.pxscript.parser.parse_args(_words(line))
        words = options.words[1:] if options.words[:1] == ["--"] else options.words
        if not words:
            raise UsageError("no program is given: name one, as in %%pxscript bash")
        network = self._find(options.targets)
        jobs = _jobs(network, words, is_one=options.one, cwd=options.cwd, seconds=options.time_limit)
        watched = Watched(jobs, cell.encode())
        watched.start()
        _show(watched, mesh_of(network).console)
        _report(jobs, raises=not options.no_raise_error)


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line}: {error}") from None


def _jobs(network: ClientNetwork, words: list[str], *, is_one: bool, **options: Any) -> list[ProgramJob]:
    mesh = mesh_of(network)
    places = [frozenset(network.nodes)] if is_one else [frozenset([node]) for node in network.nodes]
    return [
        prepare(scheduler_of(mesh), words, JobOptions(on=place), mesh.limits.max_message_bytes, **options)
        for place in places
    ]


def _show(watched: Watched, console: Console) -> None:
    """Show the output of programs until they end; forward a first interrupt, and end them on a second one."""
    sources: dict[tuple[int, int], Source] = {}
    limit = console.sink.max_shown_bytes
    is_interrupted = False
    while True:
        try:
            piece = watched.take()
            if piece is None:
                break
            job, stream, data = piece
            source = sources.setdefault((job.number, stream), Source(job.node or 0, job.host or "", stream))
            shown = data if limit is None else data[: max(0, limit - source.shown)]
            source.shown += len(shown)
            source.hidden += len(data) - len(shown)
            console.show(source, shown)
        except KeyboardInterrupt:
            if is_interrupted:
                watched.cancel()
                raise
            is_interrupted = True
            watched.interrupt()
    for source in sources.values():
        console.show_end(source, hint="")
    if is_interrupted:
        raise KeyboardInterrupt


def _report(jobs: list[ProgramJob], *, raises: bool) -> None:
    """Report which programs have failed; raise the first error."""
    errors: list[Exception] = []
    for job in jobs:
        try:
            code = job.returncode()
            CompletedProgram(job.words, code, b"", b"", job.node, job.host, job.duration).check_returncode()
        except (OSError, ConfigurationError, JobLostError, JobCancelledError, ProgramFailedError) as error:
            errors.append(error)
    if raises and errors:
        for other in errors[1:]:
            errors[0].add_note(str(other))
        raise errors[0]
    for failed in errors:
        sys.stderr.write(f"{failed}\n")
