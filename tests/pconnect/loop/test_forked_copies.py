import os
from collections.abc import Callable

import pytest

from pconnect import ConnectionLostError
from pconnect.loop.forked_copies import check_process, leave_in_copies


class Thing:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def abandon(self, error: ConnectionLostError) -> None:
        self.errors.append(str(error))


class Failing(Thing):
    def abandon(self, _: ConnectionLostError) -> None:
        raise RuntimeError


def said_in_a_copy(say: Callable[[], str]) -> str:
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            os.write(writing, say().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text


def test_each_copy_abandons_each_thing_once_whatever_goes_wrong_with_another() -> None:
    things = [Thing(), Failing(), Thing()]
    for thing in things:
        leave_in_copies(thing)
    for _ in range(2):
        said = said_in_a_copy(lambda: repr([len(thing.errors) for thing in things]))
        assert said == "[1, 0, 1]"
    assert not any(thing.errors for thing in things)


def test_a_copy_of_a_copy_has_no_part_in_it_either() -> None:
    thing = Thing()
    leave_in_copies(thing)
    said = said_in_a_copy(lambda: said_in_a_copy(lambda: "\n".join(thing.errors)))
    assert said.startswith(
        f"this process is a forked copy of process {os.getpid()}, whose network it cannot use"
    )


def test_what_was_made_here_may_be_used_here_only() -> None:
    check_process(os.getpid())
    with pytest.raises(ConnectionLostError, match=f"copy of process {os.getppid()},"):
        check_process(os.getppid())
