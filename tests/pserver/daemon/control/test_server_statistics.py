"""The document, made from the reports of sessions whose processes do nothing."""

import contextlib
import json
import math
import re
import socket
from typing import Any

import pytest

from pserver.config.server_config import ServerConfig
from pserver.ctl.long_messages import receive_long
from pserver.daemon.control.questions import Question
from pserver.daemon.control.server_statistics import ServerStatistics
from tests.pserver.daemon.control.conftest import Place
from tests.support.waiting import wait_until

ABOUT = {"name": "one", "user": "anna", "pid": 5}
ADMISSION = {"drained": False}


@pytest.fixture
def statistics(place: Place) -> ServerStatistics:
    return ServerStatistics(place.sessions, place.slots, lambda: ABOUT, lambda: ADMISSION, ServerConfig)


def say(place: Place, control: socket.socket, **words: Any) -> None:
    """Send a message from a session, and have the daemon read it."""
    control.send(json.dumps(words).encode())
    place.turn()


def get_slot(place: Place, control: socket.socket) -> int:
    """Return a lease for a session."""
    say(place, control, slots=1, exclusive=False)
    for _ in range(3):
        if (lease := json.loads(control.recv(1000)).get("grant")) is not None:
            return int(lease)
    raise AssertionError


def heard(statistics: ServerStatistics, control: socket.socket) -> Any:
    """Return the daemon's message to a session, which may come after a moment."""
    control.setblocking(False)
    data: list[bytes] = []

    def hear() -> bool:
        statistics.questions.step()
        with contextlib.suppress(BlockingIOError):
            data.append(receive_long(control))
        return bool(data)

    wait_until(hear, "an answer")
    return json.loads(data[0])


def test_the_document_is_what_the_sessions_have_told(place: Place, statistics: ServerStatistics) -> None:
    session, control = place.log_in("alice")
    lease = get_slot(place, control)
    say(place, control, used=[3, 2, 1000, 50], running=1, memory=2**20, ended="")
    say(place, control, running=[[lease, 1000.0, False, "f"]], is_more=False)
    say(
        place,
        control,
        work=[[lease, 2, 1, 0, 4, 0, 0, 0.5, 0.25, 0.125, 800, 9], [lease + 1, 9, *[0] * 10]],
    )
    say(place, control, spans=[[lease, 990.0, 999.0, False, "done", "f"]])
    document = statistics.document()
    assert document["server"] == {
        "name": "one", "account": "anna", "pid": 5, "admission": ADMISSION, "host": socket.gethostname(),
    }  # fmt: skip
    totals = document["totals"]
    assert (totals["jobs_done"], totals["jobs_failed"], totals["bytes_in"], totals["sessions"]) == (
        2,
        1,
        1000,
        1,
    )
    first, *rest = document["slots"]
    assert (first["state"], first["user"], first["session"], first["jobs_done"]) == (
        "busy",
        "alice",
        session.pid,
        2,
    )
    assert abs(document["time"] - first["since"]) < 60
    assert list(first.items())[5:] == [
        ("jobs_done", 2), ("jobs_failed", 1), ("jobs_lost", 0), ("programs_done", 4), ("programs_failed", 0),
        ("programs_lost", 0), ("processing_seconds", 0.5), ("queue_seconds", 0.25), ("transfer_seconds", 0.125),
        ("bytes_in", 800), ("bytes_out", 9),
    ]  # fmt: skip
    assert [(slot["state"], slot["user"], slot["since"]) for slot in rest] == [("free", None, None)] * 3
    assert document["sessions"] == [
        {
            "session": session.pid, "user": "alice", "from": "192.0.2.1 port 5", "nodes": [1],
            "network": f"{session.pid:08x}", "since": session.since, "slots": 1, "detached": False, "orphaned": None,
            "exclusive": False, "bytes_in": 1000, "bytes_out": 50, "memory": 2**20,
        }
    ]  # fmt: skip
    assert [(each["outcome"], each["label"]) for each in document["timeline"]] == [
        ("running", "f"),
        ("done", "f"),
    ]
    json.dumps(document)


def test_a_session_asks_for_its_client(place: Place, statistics: ServerStatistics) -> None:
    assert statistics.document()["sessions"] == []
    session, control = place.log_in("alice")
    place.log_in("bob")
    for number in range(7, 10):  # a client that asks all the time gets an answer, too
        say(place, control, statistics={"brief": True}, number=number)
        told = heard(statistics, control)
        assert told["number"] == number
    say(place, control, statistics={"since": 10**400}, number=10)
    told_all = heard(statistics, control)
    assert told_all["number"] == 10 and "timeline" in told_all["statistics"]
    document = told["statistics"]
    assert [row["session"] for row in document["sessions"]] == [session.pid]
    assert document["others"]["sessions"] == 1 and "timeline" not in document
    control.shutdown(socket.SHUT_RD)  # it no longer reads
    say(place, control, statistics={}, number=11)


def test_an_administrator_sees_all(place: Place) -> None:
    config = ServerConfig(admins=("alice",))
    ServerStatistics(place.sessions, place.slots, lambda: ABOUT, lambda: ADMISSION, lambda: config)
    _, control = place.log_in("alice")
    place.log_in("bob")
    say(place, control, statistics={}, number=1)
    assert len(json.loads(receive_long(control))["statistics"]["sessions"]) == 2


def test_others_see_only_counts(place: Place, statistics: ServerStatistics) -> None:
    session, control = place.log_in("alice")
    lease = get_slot(place, control)
    say(place, control, running=[[lease, 1000.0, False, "secret"]], is_more=False)
    own = statistics.document(user="alice")
    assert own["sessions"][0]["user"] == "alice" and own["others"] == {"sessions": 0, "slots": 0}
    document = statistics.document(user="bob")
    assert document["sessions"] == [] and document["others"] == {"sessions": 1, "slots": 1}
    assert document["slots"][0]["state"] == "busy" and document["slots"][0]["user"] is None
    text = json.dumps(document)
    assert "secret" not in text and "alice" not in text and not re.search(rf"\b{session.pid}\b", text)


def test_leases_of_other_users_are_not_theirs_to_tell_of(place: Place, statistics: ServerStatistics) -> None:
    _, alice = place.log_in("alice")
    _, mallory = place.log_in("mallory")
    lease = get_slot(place, alice)
    say(place, mallory, work=[[lease, 999, 0, 0, 0, 0, 0, 0.5, 0.0, 0.0, 0, 0]])
    say(place, mallory, spans=[[lease, 990.0, 999.0, False, "done", "f"]])
    document = statistics.document()
    assert document["totals"]["jobs_done"] == 0 and document["timeline"] == []


def test_counts_that_no_session_can_have_are_none(place: Place, statistics: ServerStatistics) -> None:
    session, control = place.log_in("mallory")
    huge = 10**4200  # too large for sums that can be written
    for _ in range(3):
        say(place, control, used=[huge, huge, huge, -5], running=huge, memory=huge, ended="")
        say(place, control, orphaned=math.inf)
    [row] = statistics.document()["sessions"]
    assert (row["bytes_in"], row["bytes_out"], row["memory"], row["orphaned"]) == (0, 0, 0, None)
    session.kill_all()
    wait_until(lambda: (place.turn(), session not in place.sessions)[1], "the end of the session")  # type: ignore[func-returns-value]
    assert statistics.document()["totals"]["bytes_in"] == 0


def test_a_session_that_has_ended_still_counts(place: Place, statistics: ServerStatistics) -> None:
    session, control = place.log_in("alice")
    lease = get_slot(place, control)
    say(place, control, running=[[lease, 1000.0, False, "f"]], is_more=False)
    say(place, control, used=[0, 0, 1000, 50], running=0, ended="")
    session.kill_all()
    wait_until(lambda: (place.turn(), session not in place.sessions)[1], "the end of the session")  # type: ignore[func-returns-value]
    document = statistics.document()
    assert document["sessions"] == [] and document["totals"]["bytes_out"] == 50
    assert document["totals"]["jobs_lost"] == 1 and document["timeline"][0]["outcome"] == "lost"


def test_failed_logins_are_counted(place: Place, statistics: ServerStatistics) -> None:
    session, control = place.attend()
    failed = {"user": "bob", "reason": "wrong", "is_refused": True, "has_proved": False}
    say(place, control, failed=failed)
    session.kill_all()
    wait_until(lambda: (place.turn(), session not in place.sessions)[1], "the end of the session")  # type: ignore[func-returns-value]
    assert statistics.document()["totals"]["logins_failed"] == 1


def test_what_is_old_need_not_be_sent_again(statistics: ServerStatistics) -> None:
    for part in statistics.loop_parts():
        part.step()
    whole = statistics.document()
    assert len(whole["samples"]["rows"]) == 1
    assert whole["samples"]["columns"][4] == "waiting"
    assert statistics.document(Question(since=whole["time"] + 1))["samples"]["rows"] == []
    assert "samples" not in statistics.document(Question(is_brief=True))


def test_neighbours_are_members(place: Place, statistics: ServerStatistics) -> None:
    known = {"id": "ab", "name": "beta", "addresses": ["beta:4000", "[::1]"], "slots": 4, "how": "joined"}
    place.sessions.members = lambda: [{**known, "heard": 1.5, "gone": False, "why": ""}, {"addresses": ()}]
    first, second = statistics.document()["members"]
    assert first == {
        "id": "ab", "name": "beta", "addresses": ["beta:4000", "[::1]"], "slots": 4, "heard": 1.5, "gone": False,
    }  # fmt: skip
    assert second["addresses"] == () and second["name"] is None
