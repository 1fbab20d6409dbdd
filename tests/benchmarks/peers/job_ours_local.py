"""The work of `tests.benchmarks.peers.job_ours`, over local links."""

import functools

from tests.benchmarks.peers import job_ours

start = functools.partial(job_ours.start, local_links=True)
