"""Messages from the daemon to a service manager; `tests.integration.test_service` covers a whole server with one."""

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.systemd.notify import ServiceManager, in_words
from tests.support.service_manager import Manager
from tests.support.waiting import wait_until


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@pserver-test-{secrets.token_hex(8)}"
    with Manager(address) as listener:
        yield listener


def test_each_word_arrives_as_its_own_message(manager: Manager) -> None:
    service = ServiceManager(manager.address)
    service.ready()
    service.say("1 session")
    service.stopping("SIGTERM")
    messages = [manager.hear() for _ in range(4)]
    assert messages == [
        {"READY": "1"},
        {"STATUS": "1 session"},
        {"STOPPING": "1", "STATUS": "SIGTERM"},
        None,
    ]
    assert manager.senders == {os.getpid()}


def test_a_reload_has_the_instant_at_which_it_began(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    ServiceManager(manager.address).reloading()
    message = manager.hear()
    assert message is not None
    assert message["RELOADING"] == "1"
    assert before <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000


def test_the_same_words_are_said_once_and_are_one_line(manager: Manager) -> None:
    service = ServiceManager(manager.address)
    service.say("a\nREADY=1 \udc80")
    service.say("a\nREADY=1 \udc80")
    assert [manager.hear(), manager.hear()] == [{"STATUS": r"a READY=1 \udc80"}, None]


def test_signs_of_life_come_at_half_of_the_time(manager: Manager) -> None:
    service = ServiceManager(manager.address, watchdog_seconds=0.2)
    assert service.time_left() == 0
    service.step()
    service.step()  # too early
    assert [manager.hear(), manager.hear()] == [{"WATCHDOG": "1"}, None]
    assert 0 < (service.time_left() or 0) <= 0.1
    wait_until(lambda: service.time_left() == 0, "half of the time")
    service.step()
    assert manager.hear() == {"WATCHDOG": "1"}


def test_who_wants_none_gets_none(manager: Manager) -> None:
    service = ServiceManager(manager.address)
    service.step()
    assert service.time_left() is None
    assert manager.hear() is None


def test_the_variables_are_taken_out_of_the_environment(manager: Manager) -> None:
    environment = manager.environment(4.0) | {"WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    service = ServiceManager.of_environment(environment)
    assert environment == {"HOME": "/"}
    assert service.listens
    service.step()
    assert manager.hear() == {"WATCHDOG": "1"}
    assert 1.0 < (service.time_left() or 0) <= 2.0


@pytest.mark.parametrize("more", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "-5"}, {"WATCHDOG_USEC": "soon"}])
def test_a_watchdog_for_another_process_or_without_sense_is_none(
    manager: Manager, more: dict[str, str]
) -> None:
    service = ServiceManager.of_environment(manager.environment(4.0) | more)
    service.step()
    assert service.time_left() is None
    assert manager.hear() is None


@pytest.mark.parametrize("address", ["", "@", "relative", "vsock:2:1234"])
def test_without_a_manager_nothing_is_done(address: str) -> None:
    service = ServiceManager.of_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    assert not service.listens
    service.ready()
    service.step()
    assert service.time_left() is None


@pytest.mark.parametrize("address", ["/there/is/nothing", "/" + "x" * 200, "/a\0b"])
def test_a_manager_that_is_gone_is_logged_once_and_ends_nothing(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = ServiceManager(address)
    service.ready()
    service.say("still here")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot reach the service manager" in caplog.text


def test_a_manager_that_reads_nothing_delays_nobody(
    manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    service = ServiceManager(manager.address)
    for number in range(5000):
        service.say(str(number))
    assert len(caplog.records) == 1
    while manager.hear():
        pass
    service.ready()
    assert manager.hear() == {"READY": "1"}


def test_the_status_in_words() -> None:
    assert (
        in_words({"sessions": [{}, {}], "slots": {"used": 0, "total": 3}})
        == "2 sessions, 0 of 3 slots in use"
    )
    assert in_words({"pid": 5}) == ""
