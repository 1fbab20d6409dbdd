"""What keeps a stand-in from running itself: a variable of the environment, which all that it starts has."""

from collections.abc import Mapping

#: Set, to anything, in the environment of what a stand-in runs, here and on servers: a stand-in that finds it runs the
#: program that it stands for, and nothing else.
VARIABLE = "PSERVER_SHADOW"


def is_inside(environment: Mapping[str, str]) -> bool:
    """Return whether a stand-in has started what has this environment."""
    return bool(environment.get(VARIABLE))
