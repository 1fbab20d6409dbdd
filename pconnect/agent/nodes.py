"""Select the nodes that may run a program, from known facts and from the nodes' answers."""

from dataclasses import replace

from pconnect.agent.held_network import Generation
from pconnect.agent.shared import Shared
from pconnect.prun.node_facts import node_facts
from pconnect.prun.placement import NodeFacts, choose
from pconnect.prun.settings import Settings


async def facts_for(
    shared: Shared, generation: Generation, settings: Settings, program: str
) -> list[NodeFacts]:
    """Return facts about all nodes and about missing servers.

    Asks the living nodes only if the settings depend on the answers.
    """
    known = [
        NodeFacts(
            node.number,
            node.server.host,
            node.slots or 0,
            sum(len(worker.jobs) for worker in list(node.workers.values())),
        )
        for node in generation.living
    ]
    if not (settings.accept or settings.needs):
        return known + _absent(generation)
    asked = await shared.work(lambda: node_facts(generation.network, program))
    slots = {each.node: each for each in known}
    return [
        replace(each, slots=slots[each.node].slots, running=slots[each.node].running)
        for each in asked
        if each.node in slots
    ] + _absent(generation)


def _absent(generation: Generation) -> list[NodeFacts]:
    """Return the lost nodes and the unreachable servers, each with the reason."""
    lost = [(node.number, node.server.host, node.gone) for node in generation.nodes if node.gone]
    never = [(-number, host, why) for number, (host, why) in enumerate(generation.network.missing.items(), 1)]
    return [
        NodeFacts(number, host, 0, missing=str(why).partition("\n")[0])
        for number, host, why in [*lost, *never]
    ]


async def nodes_for(
    shared: Shared, generation: Generation, settings: Settings, program: str, *, single: bool
) -> frozenset[int] | None:
    """Return the nodes that may run a program; ``None`` for all.

    `single`: return only one, because files must be sent to it. Raises `ConfigurationError` if there is none.
    """
    if not (settings.on or settings.ordered or settings.accept or settings.needs or single):
        return None
    facts = await facts_for(shared, generation, settings, program)
    nodes = choose(facts, settings, program).nodes
    free = {each.node for each in facts if each.is_free}
    if single or (settings.ordered and nodes[0] in free):
        nodes = nodes[:1]
    return frozenset(nodes)
