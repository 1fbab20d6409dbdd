"""The verbs of a network, and of a single node of it, that run files of Python, and programs."""

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

# What it gives back for something sent: one command for a node, one for each of several nodes.
Sent = TypeVar("Sent", bound=Command | Commands)
Words = Sequence[PathLike]


class ProgramView(Generic[Sent]):
    """What a network and a single node of it have in common on the client, for files of Python and programs."""

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
        """Run a Python file of the client in the engines; or, given a list, a program of theirs, and wait for its end.

        A program takes a slot, as a job does. It has a process group of its own, the environment of the engine, and
        ends with this client.

        Parameters
        ----------
        what
            The path of a file here; it runs in the workspaces, and this returns at once. Or a list of the name of a
            program and its arguments, which no shell looks at. The name is looked for in ``PATH`` there.
        input
            What the program reads from its standard input; by default nothing.
        cwd
            The folder where it runs; by default the one of this process. It must exist there.
        env
            What is added to its environment.
        text
            Whether what it writes is given as text, decoded as UTF-8.
        check
            Whether an exit status that is not 0 is an error.
        time_limit
            For a file, as of `reval`. A program gets SIGTERM after so many seconds, and SIGKILL five seconds later.

        Returns
        -------
        Command or Commands, or CompletedProgram or list of them
            Of a program, at each node: ``returncode``, negative for a signal; ``stdout`` and ``stderr``; ``node``,
            ``host``, ``duration``.

        Raises
        ------
        OSError, SyntaxError, UnicodeDecodeError
            The file cannot be read, or is no Python. Nothing was sent. Or the program could not be started at a node:
            there is none of this name, it cannot be executed, or its folder does not exist; the text says where. At
            other nodes it has run.
        ProgramFailedError
            With `check`, a program has failed. It is a `subprocess.CalledProcessError`.
        ProgramTimeoutError
            The time limit of a program has passed. It has what the program had written.
        JobLostError
            A node is gone, with the program.

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
        r"""Start a program at one of the nodes, the one that has a slot first; return at once.

        Parameters
        ----------
        words, cwd, env, time_limit
            As of `run`.
        terminal
            Rows and columns: the program gets a terminal, and `stderr` is ``None``, because all it writes goes there.

        Returns
        -------
        Program
            It has ``stdin``, ``stdout`` and ``stderr`` as files, ``wait()``, ``send_signal()`` and more, as the class
            `subprocess.Popen`. At the end of a ``with`` block its files are closed, and its end is waited for.

        Raises
        ------
        ConfigurationError
            These are no arguments that a program can have.

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
        """Return where the nodes have programs, in which version, as a table; warn if these are not the same.

        Each program is called with ``--version``, for at most two seconds, and its file is read. Nodes are the same
        where version and file are, in whatever folder.

        Parameters
        ----------
        *names
            Names of programs, which are looked for in ``PATH`` there, or absolute paths.
        timeout
            Seconds in which the engines have to end what they are doing, and to answer.

        Returns
        -------
        ProgramsThere
            It prints aligned, and a notebook shows it as a table. A whole network has the client, too. ``table`` has
            path, version and digest by node and name, ``differing`` and ``missing`` have names of programs.

        Raises
        ------
        ConfigurationError
            No program is named.
        RemoteError, ConnectionLostError, ExceptionGroup, TimeoutError
            As of a command.

        Warns
        -----
        VersionWarning
            A program is another at one node than at another, or a node has none. The text has the table.

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
                text = f"{error.strerror} (a text is a Python file; a program is a list: {path.split()})"
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
            raise ConfigurationError("there is no node here that could run a program")
        return nodes

    def _jobs(self, words: Words, **options: Any) -> list[ProgramJob]:
        nodes = sorted(self._nodes_of_programs())
        return [self._job(words, JobOptions(on=frozenset([node])), **options) for node in nodes]

    def _job(self, words: Words, options: JobOptions, **more: Any) -> ProgramJob:
        mesh = mesh_of(self)
        return prepare(scheduler_of(mesh), words, options, mesh.limits.max_message_bytes, **more)
