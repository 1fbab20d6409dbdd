"""Error messages for a host that does not answer."""

import errno
import os

import pytest

from pconnect.link.attempt import CONNECT, LOGIN, LOOK_UP, Attempt
from pconnect.link.host_names import Host


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (
            LOOK_UP,
            "looking up the name alpha timed out after 2.5 s: give an address",
        ),
        (CONNECT, "connecting to port 4000 timed out after 2.5 s: the machine is down, or a firewall"),
        (LOGIN, "port 4000 accepts connections, but the login timed out after 2.5 s"),
    ],
)
def test_silence_has_its_phase_its_time_and_a_cause(phase: str, words: str) -> None:
    attempt = Attempt(Host("alpha:4000", "alpha", 4000), began=10.0)
    attempt.phase = phase
    silence = TimeoutError("no answer")
    error = attempt.explain(silence, 12.5)
    assert isinstance(error, TimeoutError)
    assert str(error).startswith(words)
    assert error.__cause__ is silence


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EHOSTUNREACH, "No route to host, port 4000: the machine is off, or a firewall rejects"),
        (errno.ENETUNREACH, "Network is unreachable, port 4000: this machine has no route to that network"),
    ],
)
def test_a_machine_that_cannot_be_reached_has_a_cause(number: int, words: str) -> None:
    error = Attempt(Host("alpha:4000", "alpha", 4000)).explain(OSError(number, os.strerror(number)))
    assert isinstance(error, OSError)
    assert str(error).startswith(words)


def test_what_says_its_cause_stays_as_it_is() -> None:
    refused = ConnectionRefusedError("refused: start a server")
    assert Attempt(Host("alpha", "alpha", 1)).explain(refused) is refused
