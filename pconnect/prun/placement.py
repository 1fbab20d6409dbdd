"""Choose the nodes that may run a program, and their order."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pconnect.commands.table import Table
from pconnect.errors import ConfigurationError
from pconnect.prun import accept
from pconnect.prun.settings import Settings
from pconnect.public_names import nearest


class NoNodeError(ConfigurationError):
    """No node may run the program. The text gives the reason for each node. `reasons`: the reasons by node."""

    def __init__(self, text: str, reasons: Mapping[int, str]) -> None:
        super().__init__(text)
        self.reasons = dict(reasons)


@dataclass(frozen=True)
class NodeFacts:
    """Facts about a node.

    Attributes
    ----------
    node, host
        Its number, and its server as given to `pconnect`, perhaps with a port.
    slots, running
        The number of programs that it can run at the same time, and the number of slots in use.
    has
        Whether it has the program; ``None`` if it was not asked.
    memory
        Its free memory in bytes.
    cpus
        Its number of processors.
    load
        Its load average of one minute.
    missing
        The reason why it cannot be reached; empty if it can. A server that was never reached has a negative number.
    """

    node: int
    host: str
    slots: int
    running: int = 0
    has: bool | None = None
    memory: int | None = None
    cpus: int | None = None
    load: float | None = None
    missing: str = ""

    @property
    def name(self) -> str:
        """Its name in error messages."""
        return f"node {self.node} ({self.host})" if self.node >= 0 else self.host

    @property
    def is_free(self) -> bool:
        """Whether it has a free slot."""
        return self.running < self.slots

    def for_accept(self) -> dict[str, float | str | None]:
        """Return the facts by their names in `Settings.accept`."""
        return {name: getattr(self, name) for name in accept.NAMES}


@dataclass(frozen=True)
class Choice:
    """The nodes that may run a program.

    Attributes
    ----------
    nodes
        Their numbers, in the order in which they are tried.
    why
        The reason for this order.
    reasons
        The reasons why the remaining nodes may not run it, by number.
    """

    nodes: tuple[int, ...]
    why: str
    reasons: Mapping[int, str] = field(default_factory=dict)


def choose(facts: Sequence[NodeFacts], settings: Settings, program: str = "the program") -> Choice:
    """Return the nodes that may run a program, the best one first.

    Nodes without a free slot come last, but are included.

    Parameters
    ----------
    facts
        Facts about all nodes except this one.
    settings
        Only ``on``, ``ordered``, ``accept`` and ``needs`` are used.
    program
        Its name, for errors.

    Raises
    ------
    ConfigurationError
        A name in ``on`` matches no server, or ``accept`` is invalid.
    NoNodeError
        There are no nodes, or none of them may run the program.

    Examples
    --------
    >>> nodes = [NodeFacts(1, "alpha", 4, running=2, cpus=4), NodeFacts(2, "beta:4000", 8, running=2, cpus=2)]
    >>> choose(nodes, Settings()).nodes, choose(nodes, Settings(ordered=True)).nodes
    ((2, 1), (1, 2))
    >>> choose(nodes, Settings(accept="cpus>2"))
    Choice(nodes=(1,), why='the only node that may run it', reasons={2: 'cpus is 2, not >2'})
    """
    if not facts:
        raise NoNodeError("there is no server that could run a program", {})
    wanted = _order_of(facts, settings.on)
    requirement = accept.parse(settings.accept) if settings.accept.strip() else None
    reasons: dict[int, str] = {}
    absent = [each for each in facts if each.missing and each.node in wanted]
    if len(absent) == len(wanted):
        reasons = {each.node: each.missing for each in absent}
        text = "\n".join(f"{each.host} is missing: {each.missing}" for each in absent)
        raise NoNodeError(text, reasons)
    for each in facts:
        if each.node not in wanted:
            reasons[each.node] = f"not named by --on {', '.join(settings.on)}"
        elif each.missing:
            reasons[each.node] = f"it is missing: {each.missing}"
        elif each.slots < 1:
            reasons[each.node] = "it has no slots"
        elif settings.needs and each.has is False:
            reasons[each.node] = f"it has no {program}"
        elif requirement is not None and (unmet := requirement.unmet(each.for_accept())):
            reasons[each.node] = "; ".join(unmet)
    allowed = [each for each in facts if each.node not in reasons]
    if not allowed:
        lines = "\n".join(f"  {each.name}: {reasons[each.node]}" for each in facts)
        raise NoNodeError(f"no server may run {program}:\n{lines}", reasons)
    if settings.ordered:
        allowed.sort(key=lambda each: (not each.is_free, wanted[each.node]))
    else:
        allowed.sort(key=_load)
    return Choice(tuple(each.node for each in allowed), _why(allowed, settings), reasons)


def describe_load(facts: Sequence[NodeFacts]) -> str:
    """Return a table with the load of each server, for the error of a program that waited too long.

    Examples
    --------
    >>> print(describe_load([NodeFacts(1, "alpha", 4, running=4, memory=2**32, cpus=8, load=3.96)]))
    node  host   slots          load  cpus  free memory
       1  alpha  4 of 4 in use   4.0     8  4.0G
    """
    rows: list[list[object]] = [
        [
            each.node,
            each.host,
            f"{each.running} of {each.slots} in use",
            None if each.load is None else round(each.load, 1),
            each.cpus,
            None if each.memory is None else accept.shown("memory", each.memory),
        ]
        for each in facts
        if not each.missing
    ]
    return str(Table(["node", "host", "slots", "load", "cpus", "free memory"], rows))


def _order_of(facts: Sequence[NodeFacts], names: Sequence[str]) -> dict[int, int]:
    """Return the position of each node in the order of `names`; without names, all nodes in their own order."""
    if not names:
        return {each.node: place for place, each in enumerate(facts)}
    found: dict[int, int] = {}
    for name in names:
        meant = [each for each in facts if _is_meant(each, name)]
        if not meant:
            hosts = list(dict.fromkeys(each.host for each in facts))
            numbers = ", ".join(str(each.node) for each in facts if each.node > 0)
            hint = f" (there are nodes {numbers})" if name.isdecimal() else nearest(name, hosts)
            raise ConfigurationError(f"no server is called {name!r}{hint}")
        for each in meant:
            found.setdefault(each.node, len(found))
    return found


def _is_meant(facts: NodeFacts, name: str) -> bool:
    """Return whether a name means a node: by number, or by host with or without port. It may contain ``*``."""
    if name.isdecimal():
        return facts.node == int(name)
    if any(sign in name for sign in "*?"):
        bare = facts.host.rpartition(":")[0].strip("[]") or facts.host
        return fnmatch.fnmatchcase(facts.host, name) or fnmatch.fnmatchcase(bare, name)
    return accept.is_called(facts.host, name)


def _load(facts: NodeFacts) -> tuple[float, float, int]:
    """Return the sort key of a node, least loaded first: the share of slots in use, then the load per processor.

    The share is at least 1 if no slot is free.
    """
    load = 0.0 if facts.load is None else facts.load / (facts.cpus or 1)
    return facts.running / facts.slots, load, facts.node


def _why(allowed: Sequence[NodeFacts], settings: Settings) -> str:
    if len(allowed) == 1:
        return "the only node that may run it"
    first = allowed[0]
    if not first.is_free:
        return "all slots are taken; the program waits for one"
    if settings.ordered:
        return "the first in the given order with a free slot"
    load = "" if first.load is None else f", load {accept.shown('load', first.load)}"
    return f"the least loaded: {first.running} of {first.slots} slots taken{load}"
