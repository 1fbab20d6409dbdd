"""Registers the backend with joblib under its name, without importing joblib.

joblib finds backends only in its own table. Each new network enters this backend there if joblib is already imported;
if you import joblib later, call `register_joblib_backend`.
"""

import sys
from typing import Any

from srp_tools.packages import import_own

NAME = "pserver"


def register_joblib_backend() -> None:
    """Let joblib, and packages built on it such as scikit-learn, use networks.

    After this call, ``joblib.parallel_config("pserver", network=net)`` selects `pconnect.joblib.backend`. A new network
    makes this call by itself if joblib was imported before.

    Raises
    ------
    ModuleNotFoundError
        joblib is not installed.

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
    """Call `register_joblib_backend` if joblib is already imported."""
    joblib = sys.modules.get("joblib")
    if hasattr(joblib, "register_parallel_backend"):  # missing while joblib is being imported
        register_joblib_backend()


def _make(**options: Any) -> Any:
    return import_own("pconnect.joblib.backend").Backend(**options)
