"""Variables of the environment that engines set for Python's libraries: programs do not get them.

What started the server decides how many threads a program has; and a program that is another Python cannot import what
draws our figures.
"""

import os

_set: dict[str, tuple[str | None, str]] = {}  # what there was before the first time, and what was set last


def set_variable(name: str, value: str) -> None:
    """Set a variable for the libraries of this process and of those forked from it."""
    before, _ = _set.get(name, (os.environ.get(name), ""))
    _set[name] = before, value
    os.environ[name] = value


def note_variable(name: str, before: str | None) -> None:
    """Take that a library of ours has set a variable of which there was something else `before`."""
    now = os.environ.get(name)
    if now is not None and now != before:
        _set[name] = before, now


def environment_of_programs() -> dict[bytes, bytes]:
    """Return the environment without what was set by us, as far as nobody has changed that since."""
    environment = dict(os.environb)
    for name, (before, value) in _set.items():
        key = os.fsencode(name)
        if environment.get(key) == os.fsencode(value):
            del environment[key]
            if before is not None:
                environment[key] = os.fsencode(before)
    return environment
