"""Remote compile steps: run compilers for `pconnect.shadow.compile_step`, and find the nodes with the same compiler.

This code may block. Each step runs in its own thread.
"""

import concurrent.futures
import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pconnect.agent.held_network import Generation
from pconnect.agent.requests import Request
from pconnect.errors import ParallelError
from pconnect.jobs.job import JobOptions
from pconnect.programs.completed import CompletedProgram
from pconnect.programs.program import CapturedProgram, ProgramJob, prepare
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
from srp_tools.steps import deadline_after, remaining

# The number of nodes that may be lost before a step runs here.
_RETRIES = 3
_GRACE = 0.6
_ASK_SECONDS = 30.0
# After a failed question to a node, steps that other nodes can run skip it for this long.
_SILENT_SECONDS = 60.0


Answer = concurrent.futures.Future[Identity | str]


class _OwnReasonError(NoServerError):
    """The caller is gone, or its queue limit has expired. This reason does not apply to other steps."""


@dataclass
class KnownCompilers:
    """The compilers of the nodes of one network, by name and node.

    `answers`: the nodes' answers, including pending ones; a text is the reason why a program is not a usable compiler.
    `silent`: the times of the last failed questions. `lock`: protects both, and is never held for long.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    answers: dict[tuple[str, int], Answer] = field(default_factory=dict)
    silent: dict[tuple[str, int], float] = field(default_factory=dict)


class RemoteCompiler:
    """A compiler on the nodes that have the same one as this machine. See `pconnect.shadow.compile_step.Remote`.

    `has_waited`: whether a step was given up because no slot was free within the queue limit.
    """

    def __init__(
        self, generation: Generation, known: KnownCompilers, settings: Settings, nodes: frozenset[int] | None
    ) -> None:
        self._generation = generation
        self._known = known
        self._settings = settings
        self._nodes = nodes
        self._running: CapturedProgram | None = None
        self._is_cancelled = False
        self.has_waited = False

    def compile(self, words: Sequence[str], request: Request) -> Outcome:
        """Run one step for a caller.

        Raises `OSError` if the compiler cannot be started here, or the object cannot be written.
        """
        environment = {os.fsdecode(name): os.fsdecode(value) for name, value in request.environment.items()}
        environment[VARIABLE] = os.path.basename(words[0])  # noqa: PTH119 - it need not be valid text
        try:
            here = identity_here(words[0], environment)
            self._nodes = self._fitting(self._settings.command or words[0], here)
        except (NoServerError, OtherCompilerError) as error:
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
        self._check()
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return RemoteEnd(status, done.stdout, done.stderr, done.outputs, done.host or "")

    def cancel(self) -> None:
        """Cancel the running program, because the caller is gone. Any thread may call this."""
        self._is_cancelled = True
        running = self._running
        if running is not None:
            running.job.cancel()

    def _check(self) -> None:
        if self._is_cancelled:
            raise _OwnReasonError("the caller is gone")

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
        on_begin: Callable[[], object] = lambda: None,
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
        begun = threading.Event()

        def begin() -> None:
            begun.set()
            on_begin()

        job.on_begin = begin
        self._running = captured
        self._check()
        job.start()
        try:
            self._await_slot(job, begun)
            job.result(timeout)
            return captured.outcome(check=False)
        except (ParallelError, OSError, TimeoutError, concurrent.futures.CancelledError) as error:
            job.cancel()
            self._check()
            raise NoServerError(str(error) or type(error).__name__) from error
        finally:
            self._running = None

    def _await_slot(self, job: ProgramJob, begun: threading.Event) -> None:
        """If there is a queue limit, wait until a job has begun or ended."""
        limit = self._settings.queue_limit
        if limit is None:
            return
        with contextlib.suppress(TimeoutError):
            job.exception(limit)
        if not begun.is_set() and job.cancel() and not begun.is_set():
            raise self._waited()

    def _waited(self) -> NoServerError:
        self.has_waited = True
        return _OwnReasonError(f"timed out after {self._settings.queue_limit:g} s waiting for a free slot")

    def _fitting(self, compiler: str, here: Identity) -> frozenset[int]:
        """Return the nodes that have this compiler.

        Raises `OtherCompilerError` if no node has it, or none answers.
        """
        known, now = self._known, time.monotonic()
        with known.lock:
            late = [key for key, at in known.silent.items() if now < at + _SILENT_SECONDS]
        silent = {node for name, node in late if name == compiler}
        allowed = [
            node for node in self._generation.living if self._nodes is None or node.number in self._nodes
        ]
        fitting: set[int] = set()
        reasons = []
        for node in sorted(allowed, key=lambda node: node.number in silent):
            if fitting and node.number in silent:
                break  # other nodes have the compiler
            try:
                there = self._identity(compiler, node.number)
                if isinstance(there, str):
                    raise OtherCompilerError(f"{node}: {there}")
                check_same(compiler, here, there, str(node))
            except OtherCompilerError as error:
                reasons.append(str(error))
            except NoServerError as error:  # the node may answer later
                self._check()
                reasons.append(f"{node}: {error}")
            else:
                fitting.add(node.number)
        if not fitting:
            raise OtherCompilerError("; ".join(reasons) or "no server may be used")
        self.has_waited = False  # a node that did not answer is not needed
        return frozenset(fitting)

    def _identity(self, compiler: str, node: int) -> Identity | str:
        """Return the identity of a compiler on a node. Concurrent steps share one question; the answer is kept.

        Raises `NoServerError` if the node does not answer.
        """
        known, key = self._known, (compiler, node)
        deadline = deadline_after(self._settings.queue_limit)
        while True:
            with known.lock:
                answer = known.answers.get(key)
                if answer is None:
                    answer = known.answers[key] = Answer()
                    break
            try:
                return self._answer_of_other(answer, deadline)
            except _OwnReasonError:
                self._check()
                if remaining(deadline) == 0:
                    raise self._waited() from None
        try:
            answer.set_result(self._ask(compiler, node, answer))
        except BaseException as error:
            with known.lock:
                del known.answers[key]
                if not isinstance(error, _OwnReasonError):
                    known.silent[key] = time.monotonic()
            answer.set_exception(error)
            raise
        with known.lock:
            known.silent.pop(key, None)
        return answer.result()

    def _answer_of_other(self, answer: Answer, deadline: float) -> Identity | str:
        """Return the answer to another step's question. That step may wait longer for a slot than this one."""
        with contextlib.suppress(TimeoutError):
            return answer.result(remaining(deadline))
        if not (answer.running() or answer.done()):
            raise self._waited()
        return answer.result()

    def _ask(self, compiler: str, node: int, answer: Answer) -> Identity | str:
        """Ask a node about a compiler. `answer` becomes running when the question gets a slot."""

        def begin() -> None:
            if not answer.running():
                answer.set_running_or_notify_cancel()

        def run(words: Sequence[str]) -> tuple[int, bytes]:
            done = self._run(
                words,
                b"",
                files={},
                variables={"LC_ALL": "C", VARIABLE: "1"},
                outputs=[],
                nodes=frozenset([node]),
                timeout=_ASK_SECONDS,
                on_begin=begin,
            )
            return done.returncode, done.stdout

        try:
            return identity(compiler, run)
        except OtherCompilerError as error:
            return str(error)
