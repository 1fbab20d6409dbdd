"""Ask the nodes of a network about their load and resources, to choose one of them."""

from collections.abc import Mapping
from typing import Any

from pconnect.commands.command import Command
from pconnect.errors import ParallelError
from pconnect.prun.placement import NodeFacts
from pconnect.session.remote_calls import call_service, mesh_of
from pconnect.session.server import Server


def node_facts(network: Any, program: str = "", *, timeout: float = 5.0) -> list[NodeFacts]:
    """Ask all nodes that are not lost.

    The servers report slots, whatever their engines are doing. The engines report memory, processors and `program`. If
    an engine fails or is busy for longer than `timeout`, these facts are ``None``.

    Parameters
    ----------
    network
        A network of the client, or a part of it.
    program
        The name or the absolute path of a program. Each node reports whether it has it. Empty: do not ask.
    timeout
        Seconds to wait for the servers, and for each engine.

    Returns
    -------
    list of NodeFacts
        The facts in the order of the nodes. A node whose server does not answer has 0 slots.
    """
    mesh = mesh_of(network)
    servers = [mesh.servers[node] for node in network.nodes if node in mesh.servers]
    servers = [server for server in servers if server.state == "open"]
    names = [program] if program else []
    asked = [
        call_service("machine.facts", [names], server.data, shown_as="machine.facts") for server in servers
    ]
    live = {node: facts for node, (facts, _) in mesh.query(timeout).items()}
    return [
        _facts(server, live.get(server.node, {}), _answer(command, timeout), program)
        for server, command in zip(servers, asked, strict=True)
    ]


def _answer(command: Command, timeout: float) -> Mapping[str, Any]:
    """Return an engine's facts about its machine, an empty mapping if it does not answer."""
    try:
        answer = command.result(timeout)
    except (ParallelError, TimeoutError):
        command.cancel()
        return {}
    return answer if isinstance(answer, dict) else {}


def _facts(server: Server, live: Mapping[str, Any], machine: Mapping[str, Any], program: str) -> NodeFacts:
    jobs = live.get("jobs") or {"slots": 0, "workers": []}
    memory, cpus, load = (_number(machine.get(name)) for name in ("memory", "cpus", "load"))
    programs = machine.get("programs")
    return NodeFacts(
        server.node,
        server.host,
        slots=jobs["slots"] or 0,  # a server that has just started does not know them
        running=sum(worker[3] is not None for worker in jobs["workers"]),
        has=program in programs if program and isinstance(programs, list) else None,
        memory=None if memory is None else int(memory),
        cpus=None if cpus is None else int(cpus),
        load=live.get("load") if load is None else load,
    )


def _number(value: object) -> float | None:
    """Return a number that a node reported, or ``None`` if it is not a valid number."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
