"""The work of `tests.benchmarks.peers.ours`, over local links."""

import functools

from tests.benchmarks.peers import ours

start = functools.partial(ours.start, local_links=True)
