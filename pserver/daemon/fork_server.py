"""The fork server: a child of the daemon that has loaded what sessions need, so that each starts within milliseconds.

It is another interpreter, which loads numpy and tlslite in a third of a second. It does so while the daemon starts.
"""

import multiprocessing.forkserver

_PRELOADED = [
    "pserver.daemon.daemon",
    "pserver.session.session",
    "pserver.engine.engine",
    "pserver.daemon.first_use",
]


def start_fork_server() -> None:
    """Start it, unless it is running; do not wait until it is ready. It ends when this process does."""
    multiprocessing.forkserver.set_forkserver_preload(_PRELOADED)
    multiprocessing.forkserver.ensure_running()
