"""Each command, with valid and invalid arguments, and its line in the log."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pserver.daemon.control.control_socket import Asker
from pserver.daemon.control.endings import Endings
from pserver.daemon.control.words import ControlWords, Server
from srp_tools.errors import ConfigurationError
from tests.pserver.daemon.control.conftest import NoPool, Place
from tests.support.waiting import wait_until

ADMIN = Asker("this machine process 1", "uid 0")


class Duty:
    """Records whether the server accepts sessions."""

    is_drained = finishes_jobs = False

    def drain(self, *, finishes_jobs: bool = False) -> None:
        self.is_drained, self.finishes_jobs = True, finishes_jobs

    def resume(self) -> None:
        self.is_drained = False


class Office:
    """A server with its commands."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.duty = Duty()
        self.stopped = ""
        self.is_busy = False
        self.words = ControlWords(
            Server(
                place.sessions,
                place.slots,
                self.duty,
                Endings(),
                lambda: {"name": "one"},
                lambda: {"changed": {}},
                self.stop,
                lambda: self.is_busy,
                NoPool(),
            )
        )

    def stop(self, reason: str) -> None:
        self.stopped = reason

    def do(self, word: object, **more: object) -> dict[str, Any]:
        return dict(self.words.answer({"do": word, **more}, ADMIN))


@pytest.fixture
def office(place: Place) -> Office:
    return Office(place)


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    loggers = {log: log.level for log in (logging.getLogger(), logging.getLogger("pserver"))}
    caplog.handler.setLevel(logging.NOTSET)
    yield
    for log, before in loggers.items():
        log.setLevel(before)


@pytest.mark.parametrize("word", [None, 1, "", "halt", ["kill"], "x" * 1000])
def test_a_word_that_there_is_not_is_refused(
    office: Office, word: object, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match="give one of status, sessions, statistics, kill"):
        office.do(word)
    assert 'outcome="refused: there is no command' in caplog.text
    assert all(len(line) < 1000 for line in caplog.messages)


def test_asking_is_no_line_in_the_log_unless_it_comes_from_elsewhere(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    assert office.do("status") == {"name": "one"}
    assert office.do("sessions") == {"sessions": []}
    assert caplog.text == ""
    office.words.answer({"do": "status"}, Asker("192.0.2.1 port 5", "alice"), is_remote=True)
    assert 'audit control from 192.0.2.1 port 5 user="alice" what="{' in caplog.text


def test_kill_takes_a_session_or_a_user(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    (one, control), (two, _), (three, _) = (office.place.log_in(user) for user in ("alice", "bob", "bob"))
    assert office.do("kill", what=str(one.pid)) == {"killed": [{"session": one.pid, "user": "alice"}]}
    assert "an administrator of the server (uid 0) ended this session" in json.loads(control.recv(200))["end"]
    killed = office.do("kill", what="bob")["killed"]
    assert [each["session"] for each in killed] == [two.pid, three.pid]
    for what in ("carol", "1", "", None, 5):
        with pytest.raises(ConfigurationError, match=r"no session|give the number of a session"):
            office.do("kill", what=what)
    assert caplog.text.count("audit control") == 7


def test_slots_is_a_number(office: Office) -> None:
    assert office.do("slots", total=9) == {"before": 4, "total": 9, "used": 0}
    for wrong in (-1, 100_001, "9", 2.0, True, None):
        with pytest.raises(ConfigurationError, match="give a number from 0 to 100000"):
            office.do("slots", total=wrong)
    assert office.place.slots.facts["total"] == 9


def test_sessions_hear_of_another_number_of_slots(office: Office) -> None:
    _, control = office.place.log_in()
    control.send(b'{"slots": 6, "exclusive": false}')
    used = office.place.slots
    wait_until(lambda: office.place.turn() or used.facts["used"] == 4, "the slots")  # type: ignore[func-returns-value]
    office.do("slots", total=5)
    office.place.turn()
    heard = [json.loads(control.recv(100)) for _ in range(7)]
    assert [next(iter(each)) for each in heard] == ["total", *["grant"] * 4, "total", "grant"]
    office.do("slots", total=4)
    office.place.turn()
    assert [json.loads(control.recv(100)) for _ in range(2)] == [{"total": 4}, {"yield": heard[1]["grant"]}]


def test_release_ends_the_server_with_its_last_session_unless_it_resumes(office: Office) -> None:
    session, _ = office.place.log_in()
    assert office.do("release") == {"sessions": 1}
    # Otherwise, detached sessions would never end.
    assert office.duty.is_drained and office.duty.finishes_jobs
    office.words.step()
    assert not office.stopped
    office.do("resume")
    assert not office.duty.is_drained
    office.do("drain")
    assert not office.duty.finishes_jobs
    session.signal(9)
    wait_until(lambda: office.place.turn() or session.has_ended, "its end")
    office.words.step()
    assert not office.stopped  # a drained server keeps running
    office.do("release")
    office.is_busy = True
    office.words.step()
    assert not office.stopped  # a login is in progress
    office.is_busy = False
    office.words.step()
    assert office.stopped == "its last session has ended, as requested by uid 0 from this machine process 1"


def test_stop_names_detached_jobs_and_needs_force(office: Office) -> None:
    session, control = office.place.log_in()
    control.send(b'{"detached": true}')
    wait_until(lambda: office.place.turn() or session.nodes[0].is_detached, "its report")  # type: ignore[func-returns-value]
    with pytest.raises(
        ConfigurationError, match=rf"detached jobs: session {session.pid} of alice\. .*or quit to lose them"
    ):
        office.do("stop")
    assert not office.stopped
    ended = office.do("stop", force=True)["ended"]
    assert [row["session"] for row in ended] == [session.pid]
    assert "uid 0" in office.stopped


def test_the_level_of_the_log_leaves_the_audit_alone(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("", "pserver", "pserver.audit"):
        caplog.set_level(logging.INFO, logger)  # the end of the test undoes it
    assert office.do("log-level", level="ERROR") == {"level": "error"}
    logging.getLogger("pserver").warning("not this")
    assert "not this" not in caplog.text
    assert "audit control" in caplog.text
    for wrong in ("loud", "", 3, None):
        with pytest.raises(ConfigurationError, match="debug, info, warning"):
            office.do("log-level", level=wrong)
