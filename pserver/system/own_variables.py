"""Environment variables that engines set for Python's libraries, and that programs must not inherit.

The environment of the server decides how many threads a program has, and a program in another Python environment could
not import this package's matplotlib backend.
"""

import os

_set: dict[
    str, tuple[str | None, str]
] = {}  # the value before this package first set it, and its latest value


def set_variable(name: str, value: str) -> None:
    """Set a variable for the libraries of this process and of those forked from it."""
    before, _ = _set.get(name, (os.environ.get(name), ""))
    _set[name] = before, value
    os.environ[name] = value


def note_variable(name: str, before: str | None) -> None:
    """Record that this package has set a variable, whose value was `before`."""
    now = os.environ.get(name)
    if now is not None and now != before:
        _set[name] = before, now


def environment_of_programs() -> dict[bytes, bytes]:
    """Return the environment without this package's changes, except where the user has changed a variable since."""
    environment = dict(os.environb)
    for name, (before, value) in _set.items():
        key = os.fsencode(name)
        if environment.get(key) == os.fsencode(value):
            del environment[key]
            if before is not None:
                environment[key] = os.fsencode(before)
    return environment
