"""Keep a stand-in from running itself, with an environment variable that its child processes inherit."""

from collections.abc import Mapping

#: Stand-ins set it to some text for every process that they start, here and on servers. A stand-in that finds it set
#: runs the real program locally.
VARIABLE = "PSERVER_SHADOW"


def is_inside(environment: Mapping[str, str]) -> bool:
    """Return whether this environment belongs to a process that a stand-in started."""
    return bool(environment.get(VARIABLE))
