"""The leases of sessions that return, and of sessions that have ended."""

import json
import os
import selectors
import socket
import subprocess
from collections.abc import Iterator

import pytest

from pserver.daemon import slot_service
from pserver.daemon.slot_service import SlotService
from tests.support.servers import open_files
from tests.support.waiting import wait_until


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


@pytest.fixture
def control() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_that_does_not_end_keeps_its_slot_for_some_seconds_after_its_session(
    selector: selectors.BaseSelector,
    control: socket.socket,
    sleeper: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot_service, "_ORPHAN_SECONDS", 0.1)
    slots = SlotService(2, selector)
    before = open_files()
    for lease, session in ((7, "one"), (8, "two")):
        slots.take(session, session, control, {"hold": lease}, [os.pidfd_open(sleeper.pid)])
        slots.leave(session)
    slots.take("two again", "two", control, {"hold": 8}, [os.pidfd_open(sleeper.pid)])
    assert slots.facts["used"] == 2
    assert 0 < (slots.time_left() or 0) <= 0.1
    wait_until(lambda: slots.time_left() == 0, "the deadline")
    slots.step()
    assert slots.facts["used"] == 1
    assert slots.time_left() is None
    assert open_files() == before + 1
    slots.close()


def test_a_process_that_ends_after_its_session_ends_its_lease_at_once(
    selector: selectors.BaseSelector, control: socket.socket, sleeper: subprocess.Popen[bytes]
) -> None:
    slots = SlotService(1, selector)
    slots.take("one", "net", control, {"hold": 7}, [os.pidfd_open(sleeper.pid)])
    slots.leave("one")
    sleeper.kill()
    [(key, _)] = selector.select(10.0)
    key.data()
    assert slots.facts["used"] == 0
    assert slots.time_left() is None
    slots.close()


def test_leases_come_back_to_each_daemon_after_it_has_granted_others(
    selector: selectors.BaseSelector,
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    granted: list[int] = []
    with ours, theirs:
        for used in range(1, 4):
            slots = SlotService(3, selector)
            slots.take(used, used, ours, {"slots": 1}, [])
            slots.step()
            assert json.loads(theirs.recv(1000)) == {"total": 3}
            for session, lease in enumerate(granted, 1):
                slots.take(session, session, ours, {"hold": lease}, [])
            assert slots.facts["used"] == used
            granted.append(json.loads(theirs.recv(1000))["grant"])
            slots.close()


def test_a_lease_of_the_future_is_not_taken_over(
    selector: selectors.BaseSelector, control: socket.socket
) -> None:
    slots = SlotService(1, selector)
    slots.take("one", "net", control, {"hold": 10**15}, [])  # a number that it takes years of uptime to reach
    assert slots.facts["used"] == 0
    slots.close()


def test_a_lease_with_a_process_may_be_returned_and_ends_with_that(
    selector: selectors.BaseSelector,
    control: socket.socket,
    sleeper: subprocess.Popen[bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    slots = SlotService(2, selector)
    for session in ("one", "two"):
        slots.take(session, session, control, {"slots": 1}, [])
    slots.step()
    lease, other = sorted(slots._allocator._leases)
    slots.take("one", "one", control, {"bind": lease}, [os.pidfd_open(sleeper.pid)])
    slots.take("one", "one", control, {"slots": 0}, [])
    slots.take("one", "one", control, {"return": lease}, [])
    assert slots.facts["used"] == 2
    sleeper.kill()
    [(key, _)] = selector.select(10)
    key.data()
    slots.take("one", "one", control, {"return": lease}, [])
    assert (slots.facts["used"], caplog.text) == (1, "")
    slots.take("one", "one", control, {"return": other}, [])
    assert slots.facts["used"] == 1 and caplog.text.count("makes no sense") == 1
    slots.close()
