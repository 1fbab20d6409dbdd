import json
import time

from pserver.daemon.control.session_table import session_rows
from tests.pserver.daemon.control.conftest import Place
from tests.support.waiting import wait_until


def test_a_row_has_what_a_session_has_said(place: Place) -> None:
    session, control = place.log_in()
    before = time.time()
    control.send(json.dumps({"used": [3, 2, 10, 20], "running": 2, "ended": ""}).encode())
    control.send(json.dumps({"slots": 2, "exclusive": False}).encode())
    wait_until(lambda: place.turn() or place.slots.facts["used"] == 2, "the slots")  # type: ignore[func-returns-value]
    [row] = session_rows(place.sessions, place.slots)
    assert row == {
        "session": session.pid, "user": "alice", "from": "192.0.2.1 port 5", "since": session.since, "nodes": [1],
        "commands": 3, "jobs": 2, "running": 2, "slots": 2, "idle": 0.0, "detached": False, "orphaned": None,
    }  # fmt: skip
    control.send(json.dumps({"slots": 0, "exclusive": False}).encode())
    for lease in (1, 2):
        control.send(json.dumps({"return": json.loads(told(control, "grant"))["grant"]}).encode())
        assert lease
    control.send(json.dumps({"used": [3, 2, 10, 20], "ended": ""}).encode())
    wait_until(lambda: place.turn() or idle(place) > 0, "a session that is idle")  # type: ignore[func-returns-value]
    assert idle(place) <= time.time() - before


def idle(place: Place) -> float:
    [row] = session_rows(place.sessions, place.slots)
    assert isinstance(row["idle"], float)
    return row["idle"]


def told(control: object, what: str) -> bytes:
    while True:
        data: bytes = control.recv(100)  # type: ignore[attr-defined]
        if what in json.loads(data):
            return data
