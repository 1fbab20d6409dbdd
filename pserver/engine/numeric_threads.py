"""How many threads numerical libraries use: all processes of a machine share its processors.

Imported by the starter, so that it costs an engine and a worker little.
"""

import os

from srp_tools.packages import import_own

threadpoolctl = import_own("threadpoolctl")
# It runs a program to find the C library, which takes some 5 ms, and remembers that for all processes forked from here.
threadpoolctl.ThreadpoolController()

# What numerical libraries read when they are loaded.
_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")]
_ours: dict[str, str] = {}  # what this module, here or in the process this one was forked from, has set


def limit_threads(count: int) -> None:
    """Let libraries use so many threads, also those that are imported later, unless somebody has said otherwise.

    That is whoever started the server, or for a worker a command that has set one of the variables.
    """
    free = [name for name in _VARIABLES if os.environ.get(name) == _ours.get(name)]
    for name in free:
        os.environ[name] = _ours[name] = str(count)
    if free == _VARIABLES:
        threadpoolctl.threadpool_limits(count)
