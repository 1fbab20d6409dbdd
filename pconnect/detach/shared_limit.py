"""The limit of one executor or pool, divided among the nodes, which do not count together once the client has left."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping


class SharedLimit:
    """How many jobs of an executor each node may run at the same time; together they keep the executor's limit.

    `most`: the limit. `busy`: by node, the number of workers that have jobs of the executor; these continue there.
    `slots`: by node, the number of slots where its other jobs may run. `parts`: by node, its part of the limit.
    """

    def __init__(self, most: int, busy: Mapping[int, int], slots: Mapping[int, int]) -> None:
        self.parts = Counter(busy)
        self._given: Counter[int] = Counter()
        # More than all slots has no effect.
        for _ in range(min(most - self.parts.total(), sum(slots.values()))):
            self.parts[min(sorted(slots), key=lambda node: (self.parts[node] + 1) / slots[node])] += 1

    def choose(self, allowed: Collection[int], load: Callable[[int], float]) -> int:
        """Return the node for another job: one where it may run, unless the limit leaves only busy ones.

        `load`: the load of a node by all jobs.
        """
        nodes = [node for node in sorted(allowed) if self.parts[node]]
        nodes = nodes or [node for node in sorted(self.parts) if self.parts[node]]
        node = min(nodes, key=lambda node: ((self._given[node] + 1) / self.parts[node], load(node)))
        self._given[node] += 1
        return node
