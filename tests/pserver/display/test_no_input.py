"""Every function that asks for input fails immediately and explains why."""

import getpass
import pdb
import sys

import pytest

from pserver.display import no_input


@pytest.fixture(autouse=True)
def _without_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    # Have pytest restore everything that `install` replaces.
    monkeypatch.setattr(sys, "stdin", sys.stdin)
    monkeypatch.setattr(sys, "breakpointhook", sys.breakpointhook)
    monkeypatch.setattr(getpass, "getpass", getpass.getpass)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    no_input.install()


@pytest.mark.parametrize(
    "source",
    [
        "input('name? ')",
        "sys.stdin.read()",
        "sys.stdin.read(1)",
        "sys.stdin.readline()",
        "sys.stdin.readlines()",
        "next(iter(sys.stdin))",
        "getpass.getpass('password: ')",
    ],
)
def test_reading_fails_and_says_what_to_do(source: str) -> None:
    with pytest.raises(
        EOFError, match="no keyboard: ask for the input on the client, and send it with psend or push"
    ):
        eval(source, {"sys": sys, "getpass": getpass})


def test_it_looks_like_an_input_that_is_no_terminal() -> None:
    assert sys.stdin.readable()
    assert not sys.stdin.writable()
    assert not sys.stdin.isatty()
    assert sys.stdin.fileno() == 0


def test_a_breakpoint_fails() -> None:
    with pytest.raises(RuntimeError, match="debuggers do not work here"):
        sys.breakpointhook()


def test_a_debugger_of_the_users_choice_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONBREAKPOINT", "builtins.dict")
    assert sys.breakpointhook(a=1) == {"a": 1}


def test_pythons_debugger_fails() -> None:
    try:
        raise ValueError("to be looked at")
    except ValueError as error:
        trace = error.__traceback__
    with pytest.raises(RuntimeError, match="debuggers do not work here"):
        pdb.post_mortem(trace)
