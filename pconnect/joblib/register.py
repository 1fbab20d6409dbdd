"""Registering the backend with joblib by name, without importing joblib.

joblib finds a backend only in a table of its own. Each new network enters this one there, if joblib is
imported by then; if you import it later, call `register_joblib_backend`.
"""

import sys
from typing import Any

from srp_tools.packages import import_own

NAME = "pserver"


def register_joblib_backend() -> None:
    """Let joblib, and what is built on it, such as scikit-learn, use networks.

    After this, ``joblib.parallel_config("pserver", network=net)`` does what `pconnect.joblib.backend` tells. A new
    network does it by itself where joblib has been imported before.

    Raises
    ------
    ModuleNotFoundError
        There is no joblib.

    Examples
    --------
    >>> import math
    >>> import joblib
    >>> from pconnect import local_network, register_joblib_backend
    >>> register_joblib_backend()
    >>> with local_network(1) as net, joblib.parallel_config("pserver", network=net):
    ...     joblib.Parallel()(joblib.delayed(math.sqrt)(n) for n in (4, 9))
    [2.0, 3.0]
    """
    import_own("joblib").register_parallel_backend(NAME, _make)


def register_if_imported() -> None:
    """Do `register_joblib_backend` if joblib is there already."""
    joblib = sys.modules.get("joblib")
    if hasattr(joblib, "register_parallel_backend"):  # else it is being imported
        register_joblib_backend()


def _make(**options: Any) -> Any:
    return import_own("pconnect.joblib.backend").Backend(**options)
