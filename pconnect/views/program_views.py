"""`run`, `popen` and `which`: the methods of networks and single nodes for Python files and programs."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from pconnect.commands.command import Command
from pconnect.commands.command_list import Commands
from pconnect.errors import ConfigurationError
from pconnect.executors.executor import scheduler_of
from pconnect.jobs.job import JobOptions
from pconnect.link.connection import Connection
from pconnect.loop.network import Network
from pconnect.programs.program import CapturedProgram, PathLike, Program, ProgramJob, prepare
from pconnect.programs.which import ProgramsThere, warn_of_differences, which
from pconnect.session.remote_calls import mesh_of, run

# The result of sending: one command for a node, one for each of several nodes.
Sent = TypeVar("Sent", bound=Command | Commands)
Words = Sequence[PathLike]


class ProgramView(Generic[Sent]):
    """The methods for Python files and programs of a network and a single node, on the client."""

    @overload
    def run(self, what: str | Path, *, time_limit: float | None = None) -> Sent: ...
    @overload
    def run(
        self,
        what: Words,
        *,
        input: bytes | str | None = None,
        cwd: PathLike | None = None,
        env: Mapping[str, str] | None = None,
        text: bool = False,
        check: bool = False,
        time_limit: float | None = None,
    ) -> Any: ...
    def run(
        self,
        what: str | Path | Words,
        *,
        input: bytes | str | None = None,  # noqa: A002 - its name in the module `subprocess`
        cwd: PathLike | None = None,
        env: Mapping[str, str] | None = None,
        text: bool = False,
        check: bool = False,
        time_limit: float | None = None,
    ) -> Any:
        """Run a Python file of the client in the engines; or, given a list, run a program on the nodes and wait for it.

        A program takes a slot, like a job. It has its own process group and the environment of the engine, and ends
        with this client.

        Parameters
        ----------
        what
            The path of a local file; it runs in the workspaces, and the call returns immediately. Or a list of a
            program's name and its arguments, without a shell. The name is looked up in ``PATH`` on the nodes.
        input
            The program's standard input; empty by default.
        cwd
            The working directory; by default that of this process. It must exist on the nodes.
        env
            Variables to add to its environment.
        text
            Whether the output is text, decoded as UTF-8, instead of bytes.
        check
            Whether a nonzero exit status raises an error.
        time_limit
            For a file, as in `reval`. A program gets SIGTERM after this many seconds, and SIGKILL five seconds later.

        Returns
        -------
        Command or Commands, or CompletedProgram or list of them
            For a program, on each node: ``returncode``, negative for a signal; ``stdout`` and ``stderr``; ``node``,
            ``host``, ``duration``.

        Raises
        ------
        OSError, SyntaxError, UnicodeDecodeError
            The file cannot be read, or is not valid Python. Nothing was sent. Or the program could not be started on a
            node: it was not found, cannot be executed, or its working directory does not exist; the text says where. On
            other nodes it has run.
        ProgramFailedError
            With `check`, a program failed. The error is a `subprocess.CalledProcessError`.
        ProgramTimeoutError
            A program reached its time limit. The error has the output so far.
        JobLostError
            A node is gone, and the program with it.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     [done.stdout for done in net.run(["tr", "a-z", "A-Z"], input="any text", text=True)]
        ...     net[1].run(["sh", "-c", "exit 3"]).returncode
        ['ANY TEXT', 'ANY TEXT']
        3
        """
        if isinstance(what, str | Path):
            return self._run_file(what, time_limit)
        data = input.encode() if isinstance(input, str) else bytes(input or b"")
        programs = []
        for job in self._jobs(what, cwd=cwd, env=env, seconds=time_limit, has_input=input is not None):
            programs.append(CapturedProgram(job, data, is_text=text))
            job.start()
        try:
            outcomes = [program.outcome(check=check) for program in programs]
        finally:
            for program in programs:
                program.job.cancel()
        return outcomes[0] if isinstance(self, Connection) else outcomes

    def popen(
        self,
        words: Words,
        *,
        cwd: PathLike | None = None,
        env: Mapping[str, str] | None = None,
        time_limit: float | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Program:
        r"""Start a program on the first of the nodes that has a free slot; return immediately.

        Parameters
        ----------
        words, cwd, env, time_limit
            See `run`.
        terminal
            Rows and columns: the program gets a terminal, and `stderr` is ``None``, because all output goes to the
            terminal.

        Returns
        -------
        Program
            It has ``stdin``, ``stdout`` and ``stderr`` as files, ``wait()``, ``send_signal()`` and more, like
            `subprocess.Popen`. The end of a ``with`` block closes its files and waits for it.

        Raises
        ------
        ConfigurationError
            The arguments are not valid for a program.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(1) as net, net.popen(["sort"]) as sort:
        ...     _ = sort.stdin.write(b"pear\napple\n")
        ...     sort.stdin.close()
        ...     sort.stdout.read(), sort.wait()
        (b'apple\npear\n', 0)
        """
        mesh, nodes = mesh_of(self), self._nodes_of_programs()
        options = JobOptions(on=None if nodes == set(mesh.servers) else frozenset(nodes))
        job = self._job(words, options, cwd=cwd, env=env, seconds=time_limit, terminal=terminal)
        program = Program(job, is_terminal=terminal is not None)
        job.start()
        return program

    def which(self, *names: str, timeout: float | None = None) -> ProgramsThere:
        """Return a table of the paths and versions of programs on the nodes; warn if they differ.

        Each program is called with ``--version``, for at most two seconds, and its file is hashed. Programs are the
        same if version and file contents are the same, in whatever folder.

        Parameters
        ----------
        *names
            Names of programs, looked up in ``PATH`` on the nodes, or absolute paths.
        timeout
            Seconds for the engines to finish their commands and answer.

        Returns
        -------
        ProgramsThere
            It prints aligned, and a notebook shows it as a table. For a whole network it includes the client. ``table``
            has path, version and digest by node and name; ``differing`` and ``missing`` have names of programs.

        Raises
        ------
        ConfigurationError
            No program is named.
        RemoteError, ConnectionLostError, ExceptionGroup, TimeoutError
            As for a command.

        Warns
        -----
        VersionWarning
            A program differs between nodes, or a node does not have it. The text has the table.

        Examples
        --------
        >>> from pconnect import local_network
        >>> with local_network(2) as net:
        ...     there = net.which("sh")
        ...     there.table[1]["sh"] == there.table[2]["sh"], there.differing, there.missing
        (True, [], [])
        """
        if not names:
            raise ConfigurationError("which() needs the name of a program")
        assert isinstance(self, Network | Connection)  # noqa: S101 - there are no other views
        there = which(self, names, timeout=timeout)
        warn_of_differences(there, stacklevel=3)
        return there

    def _run_file(self, path: str | Path, time_limit: float | None) -> Sent:
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError as error:
            if isinstance(path, str):
                text = f"{error.strerror} (a string names a Python file; to run a program, pass a list: {path.split()})"
                raise FileNotFoundError(error.errno, text, path) from None
            raise
        compile(data, str(path), "exec", dont_inherit=True)
        sent: Sent = run(importlib.util.decode_source(data), self._targets(), time_limit=time_limit)  # type: ignore[attr-defined]
        return sent

    def _nodes_of_programs(self) -> set[int]:
        if isinstance(self, Connection):
            return {self.node}
        assert isinstance(self, Network)  # noqa: S101 - there are no other views
        nodes = {node for node in self.nodes if node}
        if not nodes:
            raise ConfigurationError("no node here can run a program: node 0 is the client")
        return nodes

    def _jobs(self, words: Words, **options: Any) -> list[ProgramJob]:
        nodes = sorted(self._nodes_of_programs())
        return [self._job(words, JobOptions(on=frozenset([node])), **options) for node in nodes]

    def _job(self, words: Words, options: JobOptions, **more: Any) -> ProgramJob:
        mesh = mesh_of(self)
        return prepare(scheduler_of(mesh), words, options, mesh.limits.max_message_bytes, **more)
