"""Other accounts than that of the tests, which only root can take on."""

import os
from collections.abc import Callable

import pytest

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs two accounts, and only root can be both")


def in_child(user: int, attempt: Callable[[], str]) -> str:
    """Return what a function returns, or the error that it raises, in a child of another account."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            take_on(user)
            said = attempt()
        except BaseException as error:  # noqa: BLE001 - the parent hears of it
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as stream:
        return stream.read()


def take_on(user: int) -> None:
    """Be another account from now on."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
