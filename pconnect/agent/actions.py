"""The actions of `prun` other than running a program. Each one produces text for standard output."""

import os
from collections.abc import Callable

from pconnect.agent.held_network import Generation
from pconnect.agent.nodes import facts_for
from pconnect.agent.requests import Request
from pconnect.agent.shared import NoNetworkError, Shared
from pconnect.errors import ConfigurationError, RemoteError
from pconnect.prun.explained import explain
from pconnect.prun.options import CommandLine
from pconnect.prun.placement import Choice, NodeFacts, choose
from pconnect.prun.settings import Explained

_MAX_REASON = 60


async def act(
    shared: Shared,
    line: CommandLine,
    explained: Explained,
    request: Request,
    remark: Callable[[str], object],
) -> tuple[str, int]:
    """Carry out the action of a command line; return the text for standard output, and the exit status.

    `remark`: prints a remark on standard error.

    Raises `ConfigurationError` with the reason if it cannot be done.
    """
    match line.action:
        case "explain":
            return await _explain(shared, line, explained, request), 0
        case "report":
            return f"{shared.report.table()}\n", 0
        case "agent-status":
            return _status(shared), 0
        case "agent-stop":
            shared.is_stopped.set()
            return "the agent is stopping\n", 0
    return await _ask_servers(shared, line, remark)


async def _ask_servers(shared: Shared, line: CommandLine, remark: Callable[[str], object]) -> tuple[str, int]:
    try:
        generation = await shared.generation()
    except NoNetworkError as error:
        if line.action == "slots":  # without a number, `make -j` would start all steps at the same time
            remark(f"no server can be reached, so this is the number of processors here: {first_line(error)}")
            return f"{len(os.sched_getaffinity(0))}\n", 0
        raise ConfigurationError(str(error)) from None
    if line.action == "slots":
        return f"{count_slots(generation)}\n", 0
    there = await shared.work(lambda: generation.network.which(*line.words))
    is_nowhere = any(not any(row[name] for node, row in there.table.items() if node) for name in line.words)
    return f"{there}\n", int(is_nowhere)


def first_line(error: Exception) -> str:
    """Return the first line of an error; for an error on a node, its host and message only."""
    text = (
        f"{error.host}: {error.message or error.type_name}" if isinstance(error, RemoteError) else str(error)
    )
    return (text.splitlines() or [type(error).__name__])[0]


def shortened(why: str) -> str:
    """Shorten a reason to fit into a table."""
    line = (why.splitlines() or [""])[0]
    return line if len(line) <= _MAX_REASON else f"{line[: _MAX_REASON - 3]}..."


async def _explain(shared: Shared, line: CommandLine, explained: Explained, request: Request) -> str:
    facts: list[NodeFacts] = []
    choice: Choice | str | None = None
    if not explained.settings.here:
        try:
            facts = await facts_for(shared, await shared.generation(), explained.settings, line.words[0])
            choice = choose(facts, explained.settings, line.words[0])
        except (NoNetworkError, ConfigurationError) as error:
            choice = str(error)
    text = explain(
        [os.fsencode(word) for word in line.words],
        explained,
        cwd=os.fsdecode(request.folder),
        real=os.fsdecode(request.cwd),
        here=request.environment,
        facts=facts,
        choice=choice,
    )
    return f"{text}\n"


def count_slots(generation: Generation) -> int:
    """Return the total number of slots of all servers. Several nodes on one server share its slots."""
    return sum({node.place: node.slots or 0 for node in generation.living}.values())


def _status(shared: Shared) -> str:
    lines = [f"the agent is process {os.getpid()}; its log is {shared.log_path}"]
    generation = shared.held.current
    if generation is None:
        lines.append(f"it has no network: {shared.held.error or 'no call has needed one yet'}")
        return "\n".join([*lines, ""])
    lines += [f"{node}: {node.gone or f'{node.slots} slots'}" for node in generation.nodes]
    lines += [f"{host}: missing: {error}" for host, error in generation.network.missing.items()]
    count = shared.calls - 1
    lines.append(
        "1 program is running or waiting" if count == 1 else f"{count} programs are running or waiting"
    )
    return "\n".join([*lines, ""])
