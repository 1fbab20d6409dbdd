"""How many threads numerical libraries use: all processes of a machine share its processors.

Imported by the starter, so that it costs an engine and a worker little.
"""

import os

from pserver.system.own_variables import note_variable, set_variable
from srp_tools.packages import import_own

_KMP = "KMP_DUPLICATE_LIB_OK"  # which threadpoolctl sets
_kmp_before = os.environ.get(_KMP)
threadpoolctl = import_own("threadpoolctl")
note_variable(_KMP, _kmp_before)
# To find the libraries takes some milliseconds, so that is done once for all engines.
_loaded = threadpoolctl.ThreadpoolController()

# What numerical libraries read when they are loaded.
_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")]
_ours: dict[str, str] = {}  # what this module, here or in the process this one was forked from, has set


def limit_threads(count: int, *, is_new: bool) -> None:
    """Let libraries use so many threads, also those that are imported later, unless somebody has said otherwise.

    That is whoever started the server, or for a worker a command that has set one of the variables. `is_new`: whether
    this process has loaded nothing yet that the starter had not.
    """
    free = [name for name in _VARIABLES if os.environ.get(name) == _ours.get(name)]
    for name in free:
        _ours[name] = str(count)
        set_variable(name, _ours[name])
    if free == _VARIABLES:
        found = _loaded if is_new else threadpoolctl.ThreadpoolController()
        # To set a number may start threads, also if it is the one that holds.
        if any(library.num_threads != count for library in found.lib_controllers):
            found.limit(limits=count)
