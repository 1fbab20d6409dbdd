"""Compile steps that go away: what `pconnect.shadow.compile_step` needs of the network, and which nodes fit.

All of this is called in threads that may block; one step is one thread.
"""

import concurrent.futures
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pconnect.agent.held_network import Generation
from pconnect.agent.requests import Request
from pconnect.errors import ParallelError
from pconnect.jobs.job import JobOptions
from pconnect.programs.completed import CompletedProgram
from pconnect.programs.program import CapturedProgram, prepare
from pconnect.prun.settings import Settings
from pconnect.session.remote_calls import client_mesh
from pconnect.shadow.compile_step import NoServerError, Outcome, RemoteEnd, Step, run_step
from pconnect.shadow.compiler_versions import (
    Identity,
    OtherCompilerError,
    check_same,
    identity,
    identity_here,
)
from pconnect.shadow.guard import VARIABLE

# So many nodes may go before a step is run here.
_RETRIES = 3
_GRACE = 0.6
# So long a node may take to say which compiler it has; one that did not is asked again after a while.
_ASK_SECONDS = 10.0
_AGAIN_SECONDS = 60.0


@dataclass
class _Answers:
    """What nodes have said of one compiler, by number: what it is, or why it cannot be used.

    `asked_again_at`: when nodes that have said nothing may be asked once more. `lock`: whoever has it may ask.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_node: dict[int, Identity | str] = field(default_factory=dict)
    asked_again_at: dict[int, float] = field(default_factory=dict)


class KnownCompilers:
    """What the nodes of one network have said of their compilers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, _Answers] = {}

    def of(self, compiler: str) -> _Answers:
        """Return the answers about a compiler."""
        with self._lock:
            return self._by_name.setdefault(compiler, _Answers())


class RemoteCompiler:
    """A compiler on the nodes that have the same as this machine; see `pconnect.shadow.compile_step.Remote`."""

    def __init__(
        self, generation: Generation, known: KnownCompilers, settings: Settings, nodes: frozenset[int] | None
    ) -> None:
        self._generation = generation
        self._known = known
        self._settings = settings
        self._nodes = nodes
        self._running: CapturedProgram | None = None
        self._is_cancelled = False

    def compile(self, words: Sequence[str], request: Request) -> Outcome:
        """Run one step for a caller.

        Raises `OSError` if the compiler cannot be started here, or the object cannot be written.
        """
        environment = {os.fsdecode(name): os.fsdecode(value) for name, value in request.environment.items()}
        environment[VARIABLE] = os.path.basename(words[0])  # noqa: PTH119 - its bytes need not be text
        try:
            here = identity_here(words[0], environment)
            self._nodes = self._fitting(self._settings.command or words[0], here)
        except (OtherCompilerError, NoServerError) as error:
            return Outcome(None, why=str(error), fallback=True)
        step = Step(
            words,
            os.fsdecode(request.cwd),
            here.family,
            environment,
            colors=request.terminals[2],
            expand_native=self._settings.expand_native,
            umask=request.umask,
        )
        return run_step(step, self)

    def run(
        self,
        words: Sequence[str],
        source: bytes,
        *,
        files: Mapping[str, bytes],
        environment: Mapping[str, str],
        output: str,
    ) -> RemoteEnd:
        """See `pconnect.shadow.compile_step.Remote.run`."""
        words = [self._settings.command or words[0], *words[1:]]
        variables = {**environment, VARIABLE: os.path.basename(words[0])}  # noqa: PTH119 - as above
        done = self._run(words, source, files=files, variables=variables, outputs=[output], nodes=self._nodes)
        if self._is_cancelled:
            raise NoServerError("the caller is gone")
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return RemoteEnd(status, done.stdout, done.stderr, done.outputs, done.host or "")

    def cancel(self) -> None:
        """End what runs: its caller is gone. Any thread may."""
        self._is_cancelled = True
        if self._running is not None:
            self._running.job.cancel()

    def _run(
        self,
        words: Sequence[str],
        source: bytes,
        *,
        files: Mapping[str, bytes],
        variables: Mapping[str, str],
        outputs: Sequence[str],
        nodes: frozenset[int] | None,
        timeout: float | None = None,
    ) -> CompletedProgram:
        generation, settings = self._generation, self._settings
        job = prepare(
            generation.scheduler,
            words,
            JobOptions(retries=_RETRIES, grace=_GRACE, on=nodes),
            client_mesh(generation.network.mesh).limits.max_message_bytes,
            env=variables,
            seconds=settings.time_limit,
            folder=True,
            files={name: (0o644, data) for name, data in files.items()},
            outputs=outputs,
            nice=settings.nice,
        )
        captured = CapturedProgram(job, source, is_text=False)
        self._running = captured
        if self._is_cancelled:
            raise NoServerError("the caller is gone")
        is_begun = threading.Event()
        job.on_begin = is_begun.set
        job.add_done_callback(lambda _: is_begun.set())
        job.start()
        limit = settings.queue_limit
        try:
            if limit is not None and not is_begun.wait(limit):
                raise TimeoutError(f"no slot was free for {limit:g} s")
            job.result(timeout)
            return captured.outcome(check=False)
        except (ParallelError, OSError, TimeoutError, concurrent.futures.CancelledError) as error:
            job.cancel()
            raise NoServerError(str(error) or type(error).__name__) from error
        finally:
            self._running = None

    def _fitting(self, compiler: str, here: Identity) -> frozenset[int]:
        """Return the nodes that have this compiler; raise `OtherCompilerError` if none has it."""
        fitting, reasons = set(), []
        for node in self._generation.living:
            if self._nodes is not None and node.number not in self._nodes:
                continue
            there = self._identity(compiler, node.number)
            try:
                if isinstance(there, str):
                    raise OtherCompilerError(f"{node}: {there}")
                check_same(compiler, here, there, str(node))
            except OtherCompilerError as error:
                reasons.append(str(error))
            else:
                fitting.add(node.number)
        if not fitting:
            raise OtherCompilerError("; ".join(reasons) or "no server may be used")
        return frozenset(fitting)

    def _identity(self, compiler: str, node: int) -> Identity | str:
        """Return what a node has said of a compiler; ask it the first time.

        Raises `NoServerError` if the caller is gone: that says nothing of the node.
        """
        answers = self._known.of(compiler)
        if found := answers.by_node.get(node):
            return found
        with answers.lock:
            if found := answers.by_node.get(node):
                return found
            began = time.monotonic()
            if began < answers.asked_again_at.get(node, began):
                return "it has not said yet which compiler it has"
            try:
                answers.by_node[node] = self._ask(compiler, node)
            except NoServerError as error:
                if self._is_cancelled:
                    raise
                if time.monotonic() - began >= _ASK_SECONDS:
                    answers.asked_again_at[node] = time.monotonic() + _AGAIN_SECONDS
                return str(error)
            return answers.by_node[node]

    def _ask(self, compiler: str, node: int) -> Identity | str:
        def run(words: Sequence[str]) -> tuple[int, bytes]:
            variables = {"LC_ALL": "C", VARIABLE: "1"}
            only = frozenset([node])
            done = self._run(
                words, b"", files={}, variables=variables, outputs=[], nodes=only, timeout=_ASK_SECONDS
            )
            return done.returncode, done.stdout

        try:
            return identity(compiler, run)
        except OtherCompilerError as error:
            return str(error)
