import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from pconnect.link import race
from pconnect.link.race import Place, Race
from srp_tools.steps import Steps, deadline_after, run
from tests.support.links import LIMIT


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def place() -> Iterator[Place]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()


@pytest.fixture
def silent() -> Iterator[Place]:
    """A place that does not answer: its connection queue is full, so the system drops further connections."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
        yield address


def ends(running: Race, count: int) -> Steps[list[tuple[Place, object]]]:
    found: list[tuple[Place, object]] = []
    for _ in range(count):
        ended = yield from running.next_one()
        if ended is None:
            break
        where, outcome = ended
        if isinstance(outcome, socket.socket):
            outcome.close()
            found.append((where, "open"))
        else:
            found.append((where, type(outcome)))
    return found


def run_race(places: list[Place], count: int = 9, seconds: float = LIMIT) -> list[tuple[Place, object]]:
    running = Race(places, seconds)
    with contextlib.closing(running):
        return run(ends(running, count), deadline_after(LIMIT))


def test_one_place(place: Place) -> None:
    assert run_race([place]) == [(place, "open")]


def test_no_place() -> None:
    assert run_race([]) == []


def test_a_place_that_refuses_gives_its_turn_to_the_next_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(race, "_HEAD_START", LIMIT)
    refused = "127.0.0.1", closed_port()
    assert run_race([refused, place, place]) == [(refused, ConnectionRefusedError), (place, "open")]


def test_a_silent_place_costs_a_head_start(place: Place, silent: Place) -> None:
    begin = time.monotonic()
    assert run_race([silent, place], 1) == [(place, "open")]
    assert 0.2 < time.monotonic() - begin < LIMIT / 2


def test_a_silent_place_has_its_time(place: Place, silent: Place) -> None:
    assert run_race([silent, place], seconds=1.5) == [(place, "open"), (silent, TimeoutError)]
    assert run_race([silent], seconds=0.1) == [(silent, TimeoutError)]


def test_what_stands_first_may_be_the_wrong_one(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        other = sock.getsockname()
        assert run_race([place, other]) == [(place, "open"), (other, "open")]


def test_names_are_looked_up(place: Place) -> None:
    named = "localhost", place[1]
    unknown = "no-such-host.invalid", place[1]
    found = run_race([unknown, named])
    assert found[0] == (unknown, OSError) and (named, "open") in found


def test_an_address_that_cannot_be_dialled() -> None:
    odd = "255.255.255.255", 9
    [(where, kind)] = run_race([odd])
    assert where == odd and issubclass(kind, OSError)  # type: ignore[arg-type]
