"""Set the number of threads of numerical libraries: all processes of a machine share its processors.

The starter imports this module, which saves time in engines and workers.
"""

import os

from pserver.system.own_variables import note_variable, set_variable
from srp_tools.packages import import_own

_KMP = "KMP_DUPLICATE_LIB_OK"  # threadpoolctl sets this variable
_kmp_before = os.environ.get(_KMP)
threadpoolctl = import_own("threadpoolctl")
note_variable(_KMP, _kmp_before)
# Finding the libraries takes a few milliseconds, so do it once for all engines.
_loaded = threadpoolctl.ThreadpoolController()

# The variables that numerical libraries read when they are loaded.
_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")]
_ours: dict[str, str] = {}  # values set by this module, here or in a parent process


def limit_threads(count: int, *, is_new: bool) -> None:
    """Set the number of threads of all libraries, including those imported later, unless someone else has set it.

    That may be the person who started the server or, for a worker, a command that set one of the variables. `is_new`:
    whether this process has loaded no library besides those of the starter.
    """
    free = [name for name in _VARIABLES if os.environ.get(name) == _ours.get(name)]
    for name in free:
        _ours[name] = str(count)
        set_variable(name, _ours[name])
    if free == _VARIABLES:
        found = _loaded if is_new else threadpoolctl.ThreadpoolController()
        # Setting the number may start threads, even if it stays the same.
        if any(library.num_threads != count for library in found.lib_controllers):
            found.limit(limits=count)
