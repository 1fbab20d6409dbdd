import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from pserver.daemon.callback_selector import CallbackSelector
from pserver.daemon.pool.announcing import Announcing
from pserver.pool import member_list
from pserver.pool.member_list import MemberList

ANSWER = {"id": "11" * 16, "name": "alpha", "addresses": [], "slots": 2, "again": 60.0, "members": 1}


class Starter:
    """Takes requests, and answers in place of the process that a real starter would fork."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.end: socket.socket | None = None
        self.has_room = True

    def request(self, words: Mapping[str, Any], ends: Sequence[int]) -> None:
        if not self.has_room:
            raise OSError("no room")
        self.asked.append(words["announce"])
        self.end = socket.socket(fileno=os.dup(ends[0]))

    def tell(self, host: str, **more: object) -> None:
        assert self.end is not None
        self.end.send(json.dumps({"host": host, **more}).encode())

    def finish(self) -> None:
        assert self.end is not None
        self.end.close()
        self.end = None


class Office:
    def __init__(self, selector: CallbackSelector) -> None:
        self.selector = selector
        self.starter = Starter()
        self.members = MemberList("00" * 16)
        order = {"words": {"name": "beta"}, "member_file": "/m", "bind": [], "cmd_port": 1}
        self.announcing = Announcing(
            selector, self.members, self.starter.request, lambda: order, lambda: 30.0
        )

    def turn(self) -> None:
        self.announcing.step()
        self.selector.call_ready(0.01)


@pytest.fixture
def office() -> Iterator[Office]:
    with CallbackSelector() as selector:
        office = Office(selector)
        yield office
        office.announcing.close()
        with contextlib.suppress(AssertionError):
            office.starter.finish()


def test_nothing_is_due_without_hosts(office: Office) -> None:
    assert office.announcing.time_left() is None
    office.turn()
    assert office.starter.asked == []


def test_all_hosts_are_told_at_once_and_again_when_they_want(office: Office) -> None:
    for host in ("alpha", "gamma"):
        office.members.join(host, given=True)
    assert office.announcing.time_left() == 0
    office.turn()
    [asked] = office.starter.asked
    assert asked["hosts"] == ["alpha", "gamma"] and asked["words"]["do"] == "announce"
    assert asked["words"]["name"] == "beta" and asked["words"]["interval"] == 30.0
    office.starter.tell("alpha", ok=ANSWER)
    office.starter.tell("gamma", ok=ANSWER | {"again": 30.0})
    office.starter.tell("nobody", ok=ANSWER)
    for _ in range(3):
        office.turn()
    office.starter.finish()
    office.turn()
    left = office.announcing.time_left()
    assert left is not None and 20 < left <= 30
    assert [joined.interval for joined in office.members.joined.values()] == [60.0, 30.0]
    office.turn()
    assert len(office.starter.asked) == 1


def test_a_failure_is_logged_once(
    office: Office, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_list, "_LOG_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    office.members.join("alpha", given=True)
    for outcome in (
        {"error": "refused"},
        {"error": "refused"},
        {"ok": {"id": 5}},
        {"ok": ANSWER},
        {"ok": ANSWER},
    ):
        office.announcing.announce_now("alpha")
        office.turn()
        office.starter.tell("alpha", **outcome)
        office.turn()
        office.starter.finish()
        office.turn()
    assert len(office.starter.asked) == 5
    lines = [line.partition(": ")[2] or line for line in caplog.messages]
    assert lines[0] == "refused" and "makes no sense" in lines[1]
    assert lines[2] == "announced this server to alpha, where the server alpha is running" and len(lines) == 3


def test_what_is_said_later_has_a_later_time_also_when_the_clock_is_set_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for clock in (1000.0, 990.0, 1001.0):
        monkeypatch.setattr(time, "time", lambda clock=clock: clock)
        office.announcing.leave(["alpha"])
        said.append(office.starter.asked[-1]["words"]["at"])
        office.starter.finish()
    assert said == sorted(set(said)) and said[0] == 1000.0 and said[2] == 1001.0


def test_a_process_that_dies_is_a_failure(office: Office) -> None:
    office.members.join("alpha", given=True)
    office.turn()
    office.starter.finish()
    office.turn()
    assert office.members.joined["alpha"].failed == 1
    left = office.announcing.time_left()
    assert left is not None and left > 20


def test_a_system_without_room_is_tried_again_later(office: Office) -> None:
    office.members.join("alpha", given=True)
    office.starter.has_room = False
    office.turn()
    left = office.announcing.time_left()
    assert left is not None and left > 20


def test_a_host_that_is_left_is_told(office: Office) -> None:
    office.announcing.leave([])
    assert office.starter.asked == []
    office.announcing.leave(["alpha"])
    assert office.starter.asked[0]["words"]["do"] == "leave"
