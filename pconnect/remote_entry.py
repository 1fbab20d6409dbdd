"""What pickles of this package refer to by name. This module never moves, and its names never change.

A pickle refers to a function by its module and name, so both are part of what the two sides of a network have to agree
about, as is the rest of doc/protocol.md. All functions of this package that are in pickles from the client to engines
and workers are here, with what they need; so every other module may move. Change a name, an argument or a meaning here
only together with the version of the protocol.
"""

import contextlib
import linecache
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from pconnect.errors import UnavailableTypeError
from srp_tools.packages import import_own

#: In an engine and the workers forked from it: the values that were broadcast, by key. Like the table of modules it
#: belongs to the process.
broadcast_values: dict[str, Any] = {}
#: In a worker: the arrays that it was sent for several jobs, by number.
shared_arrays: dict[int, Any] = {}


def broadcast_value(key: str) -> Any:
    """Return a value that was broadcast; stands for it in a pickle.

    Raises `UnavailableTypeError` if it is not here.
    """
    try:
        return broadcast_values[key]
    except KeyError:
        raise UnavailableTypeError(
            "a broadcast value is not at this node: it was sent to others only, or released, or the engine is another"
        ) from None


def shared_array(number: int) -> Any:
    """Return an array that was sent to this worker before; stands for it in a pickle."""
    return shared_arrays[number]


def map_part(function: Callable[..., Any] | str, items: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call a function, or an expression of the workspace, with each of some items: one part of a map."""
    called = function if callable(function) else eval(function, vars(sys.modules["__main__"]))  # noqa: S307 - the client may run anything
    return [called(*item) for item in items]


def run_batch(data: bytes, sources: Mapping[str, str], threads: int | None) -> Any:
    """Unpickle a function without arguments and call it, with at most so many threads of numerical libraries.

    `sources` are texts for tracebacks, by the names of their files.
    """
    limit: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if threads:
        threadpoolctl = import_own("threadpoolctl")  # takes a moment, and only joblib's batches need it

        limit = threadpoolctl.threadpool_limits(threads)
    with limit:
        keep_sources(sources)
        return cloudpickle.loads(data)()


def make_code(file_name: str, *parts: Any) -> types.CodeType:
    """Return a code object that keeps the name of the file that it comes from."""
    return types.CodeType(*parts).replace(co_filename=file_name)


def public(name: str) -> Any:
    """Return what users import from `pconnect` or `pconnect.job_side`; stands for it in a pickle.

    Raises `AttributeError` if there is no such name, as there may be none in another release.
    """
    package = sys.modules["pconnect"]
    # Found at run time, for users only: nothing in this package needs what is above this module.
    return getattr(package if name in package.__all__ else import_own(f"{__package__}.job_side"), name)


def is_public(value: Any) -> bool:
    """Tell whether `public` finds this class or function by its name."""
    module = str(value.__module__)
    if not module.startswith(("pconnect.", "srp_tools.")) or module == __name__:
        return False
    try:
        return public(value.__name__) is value
    except AttributeError:
        return False


def keep_sources(sources: Mapping[str, str]) -> None:
    """Have tracebacks show these texts, by the names of their files."""
    for name, text in sources.items():
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
