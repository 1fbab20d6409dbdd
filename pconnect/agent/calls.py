"""One call of `prun`: turn its command line and the rules into a program on a server, or here."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pconnect.agent.actions import act, first_line, shortened
from pconnect.agent.callers import Caller
from pconnect.agent.compiling import KnownCompilers, RemoteCompiler
from pconnect.agent.held_network import Generation
from pconnect.agent.nodes import facts_for, nodes_for
from pconnect.agent.plans import Plan
from pconnect.agent.remote_run import TIME_LIMIT, Ended, RemoteRun, is_one_output, terminal_size
from pconnect.agent.requests import Request
from pconnect.agent.shared import NoNetworkError, Shared
from pconnect.agent.transfers import Transfers, needs_transfer
from pconnect.errors import ConfigurationError, ParallelError
from pconnect.jobs.job import JobOptions
from pconnect.programs.program import ProgramJob, prepare
from pconnect.prun.fast_client import END, HERE, OUR_FAILURE, SHOWN
from pconnect.prun.options import CommandLine, parse
from pconnect.prun.placement import NoNodeError, describe_load
from pconnect.prun.places import environment, no_folder, there
from pconnect.prun.settings import Settings
from pconnect.session.remote_calls import client_mesh
from pconnect.shadow.guard import VARIABLE

# Attempts to run a repeatable program whose node was lost each time.
_TRIES = 4
# Seconds to wait for servers before a program that may run here does so.
_PATIENCE = 3.0
# Seconds from SIGTERM to SIGKILL for a program whose caller is gone.
_GRACE = 0.6

_numbers = itertools.count(1)
Answer = tuple[bytes, bytes]


class Call:
    """One call. `shared`: the state shared by all calls."""

    def __init__(self, shared: Shared, caller: Caller, request: Request) -> None:
        self._shared = shared
        self._caller = caller
        self._request = request

    async def run(self) -> Answer:
        """Carry out the request; return the kind and the contents of the last message to the caller."""
        try:
            line = parse(self._request.words)
            explained = self._shared.rules().explain([os.fsencode(word) for word in line.words or ("",)])
            explained = line.over(explained)
            if line.is_shadow and "or_here" not in explained.sources:
                explained = explained.changed({"or_here": True}, "a stand-in")
            if line.action:
                text, status = await act(self._shared, line, explained, self._request, self._caller.note)
                await self._caller.tell(SHOWN, text.encode(errors="surrogateescape"))
                return end(status)
            plan = self._plan(line, explained.settings)
        except ConfigurationError as error:
            return end(OUR_FAILURE, f"prun: {error}")
        return await self.carry_out(plan)

    async def carry_out(self, plan: Plan) -> Answer:
        """Carry out a plan, and return the last message to the caller."""
        if plan.settings.here:
            return self._here(plan, "by rule")
        if not plan.folder:
            return self._here(plan, "the current folder was removed")
        try:
            async with self._shared.gate(plan.name, plan.settings.concurrency):
                if plan.is_shadow and plan.settings.compiler:
                    return await self._compile(plan)
                return await self._run_program(plan)
        except (NoNetworkError, NoNodeError) as error:
            return self._without_server(plan, str(error))
        except (ParallelError, OSError) as error:
            return end(plan.failure, f"{plan.caller}: {first_line(error)}")

    def _plan(self, line: CommandLine, settings: Settings) -> Plan:
        request = self._request
        variables = environment(settings, request.environment)
        if line.is_shadow:
            variables[os.fsencode(VARIABLE)] = os.fsencode(Path(line.words[0]).name)
        terminal = None
        if _wants_terminal(request, settings):
            terminal = terminal_size(*self._caller.ends[:2])
            variables.setdefault(b"TERM", request.environment.get(b"TERM", b"dumb"))
        folder = ""
        if request.cwd or settings.cwd.startswith("/"):
            folder = there(os.fsdecode(request.folder), settings, os.fsdecode(request.cwd))
        elif not (settings.here or settings.or_here):
            raise ConfigurationError("the current folder was removed; name a folder on the server with --cd")
        return Plan(
            line.words[0],
            [settings.command or line.words[0], *line.words[1:]],
            settings,
            folder,
            variables,
            here=line.words,
            is_shadow=line.is_shadow,
            terminal=terminal,
        )

    async def _compile(self, plan: Plan) -> Answer:
        """Run a compile step on a server if possible, and pass on the output of the compiler."""
        shared, settings = self._shared, plan.settings
        generation = await shared.generation(_PATIENCE if settings.or_here else None)
        with self._using(generation):
            nodes = await nodes_for(shared, generation, settings, plan.name, single=False)
            known = shared.compilers.setdefault(generation, KnownCompilers())
            remote = RemoteCompiler(generation, known, settings, nodes)
            try:
                outcome = await shared.work(lambda: remote.compile(list(plan.here), self._request))
            except asyncio.CancelledError:
                remote.cancel()
                raise
            if remote.has_waited:
                return await self._waited(plan, generation)
        if outcome.status is None:
            if outcome.fallback:
                return self._without_server(plan, outcome.why)
            return self._here(plan, outcome.why)
        name = Path(plan.name).name
        if outcome.host:
            shared.report.add(name, outcome.host, failed=bool(outcome.status))
        else:
            shared.report.add_here(name, "the preprocessor reported an error")
        if outcome.stdout:
            await self._caller.tell(SHOWN, outcome.stdout)
        return END, b"%d %s" % (outcome.status, outcome.stderr)

    async def _run_program(self, plan: Plan) -> Answer:
        """Run a program on a server. If its node is lost, run it on another one, or here, if the settings allow it."""
        ended = Ended(plan.failure)
        for _ in range(_TRIES):
            generation = await self._shared.generation(_PATIENCE if plan.settings.or_here else None)
            with self._using(generation):
                run, ended = await self._try(plan, generation)
                if run.has_waited:
                    return await self._waited(plan, generation)
            if not ended.may_repeat:
                break
        if ended.may_repeat:
            return self._without_server(plan, ended.text)
        status = plan.failure if ended.is_ours else ended.status
        self._shared.report.add(Path(plan.name).name, run.host, failed=bool(status))
        return end(status, ended.text and f"{plan.caller}: {ended.text}")

    @contextlib.contextmanager
    def _using(self, generation: Generation) -> Iterator[None]:
        generation.uses += 1
        try:
            yield
        finally:
            self._shared.held.release(generation)

    async def _try(self, plan: Plan, generation: Generation) -> tuple[RemoteRun, Ended]:
        single = needs_transfer(plan.settings)
        nodes = plan.nodes or await nodes_for(
            self._shared, generation, plan.settings, plan.name, single=single
        )
        if not single:
            return await self._run_once(plan, generation, nodes)
        assert nodes is not None  # noqa: S101 - `single` selects one node
        files = Transfers(self._shared, generation, min(nodes), plan.settings, self._request)
        try:
            folder = await files.bring(next(_numbers))
            run, ended = await self._run_once(replace(plan, folder=folder), generation, nodes)
            if not (ended.is_ours or run.has_waited):
                ended = await self._fetch(plan, files, run, ended)
            return run, ended
        finally:
            await files.tidy()

    async def _fetch(self, plan: Plan, files: Transfers, run: RemoteRun, ended: Ended) -> Ended:
        """Fetch files; return the end of the call. If the program failed, its status wins over errors here."""
        try:
            for remark in await files.fetch(plan.name, run.host):
                self._caller.note(remark)
        except (ParallelError, OSError) as error:
            text = first_line(error)
            if ended.status:
                self._caller.note(text)
                return ended
            return Ended(plan.failure, text, is_ours=True)
        return ended

    async def _run_once(
        self, plan: Plan, generation: Generation, nodes: frozenset[int] | None
    ) -> tuple[RemoteRun, Ended]:
        job = self._job(plan, generation, nodes)
        run = RemoteRun(
            self._caller, self._request, plan.settings, job, is_terminal=plan.terminal is not None
        )
        ended = await run.run()
        if ended.lacks_folder:
            here = os.fsdecode(self._request.folder)
            ended = replace(ended, text=no_folder(job.node or 0, run.host, plan.folder, here, plan.settings))
        return run, ended

    def _job(self, plan: Plan, generation: Generation, nodes: frozenset[int] | None) -> ProgramJob:
        mesh = client_mesh(generation.network.mesh)
        return prepare(
            generation.scheduler,
            plan.words,
            JobOptions(grace=_GRACE, on=nodes),
            mesh.limits.max_message_bytes,
            cwd=plan.folder,
            env=plan.variables,
            seconds=plan.settings.time_limit,
            terminal=plan.terminal,
            has_input=plan.settings.stdin and not self._request.closed[0],
            merged=is_one_output(self._request, self._caller.ends),
            nice=plan.settings.nice,
            login=plan.login,
        )

    async def _waited(self, plan: Plan, generation: Generation) -> Answer:
        text = f"timed out after {plan.settings.queue_limit:g} s waiting for a free slot"
        if plan.settings.or_here:
            return self._here(plan, text)
        facts = await facts_for(self._shared, generation, Settings(needs=True), plan.name)
        return end(TIME_LIMIT, f"{plan.caller}: {plan.name}: {text}\n{describe_load(facts)}")

    def _without_server(self, plan: Plan, why: str) -> Answer:
        if plan.settings.or_here:
            return self._here(plan, why)
        return end(plan.failure, f"{plan.caller}: {why}")

    def _here(self, plan: Plan, why: str) -> Answer:
        self._shared.report.add_here(Path(plan.name).name, shortened(why))
        variables = [f"{VARIABLE}={Path(plan.name).name}"] if plan.is_shadow else []
        return HERE, b"\0".join(os.fsencode(word) for word in (*variables, "", *plan.here))


def end(status: int, text: str = "") -> Answer:
    """Return the message that ends a call, with its exit status and a text for standard error."""
    return END, f"{status} {text}\n".encode(errors="surrogateescape") if text else b"%d" % status


def _wants_terminal(request: Request, settings: Settings) -> bool:
    if settings.terminal is not None:
        return settings.terminal
    return settings.stdin and request.terminals[0] and request.terminals[1]
