import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pconnect.link.local_link import connect
from pserver.daemon.control.control import Control
from pserver.daemon.control.endings import Endings
from pserver.daemon.control.words import Server
from pserver.daemon.held_session import Reply
from pserver.duty.admission import Admission
from srp_tools.errors import ConfigurationError
from tests.pserver.daemon.control.conftest import NoPool, Place
from tests.support.places import config


def test_a_request_at_the_socket_reaches_its_word(place: Place, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    admission = Admission(config, list)
    stopped: list[str] = []
    path = tmp_path / "one.control"
    control = Control(
        path,
        place.selector,
        Server(
            place.sessions,
            place.slots,
            admission,
            Endings(),
            dict,
            dict,
            stopped.append,
            lambda: False,
            NoPool(),
        ),
        lambda: ["alice"],
    )
    with connect(path) as sock:
        sock.send(b'{"do": "release"}\n')
        while not stopped:
            place.turn()
            for part in control.loop_parts():
                part.step()
        assert json.loads(sock.recv(100)) == {"ok": {"sessions": 0}}
    assert "drained" in admission.refusal("alice")
    control.close()
    assert not path.exists()


def test_only_an_administrator_has_an_answer_for_a_session(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(user: str, request: Mapping[str, object], reply: Reply) -> None:
        if "since" in request:
            raise ConfigurationError("ask again later")
        reply(json.dumps({"for": user, "brief": request["brief"]}))

    tmp_path.chmod(0o700)
    server = Server(
        place.sessions,
        place.slots,
        Admission(config, list),
        Endings(),
        dict,
        dict,
        print,
        lambda: False,
        NoPool(),
        questions=ask,
    )
    control = Control(tmp_path / "one.control", place.selector, server, lambda: ["alice"])

    def answer(user: str, **request: object) -> dict[str, Any]:
        session, _ = place.attend()
        session.user = user
        said: list[str] = []
        control.answer_session(session, request, said.append)
        [told] = map(json.loads, said)
        return dict(told)

    assert answer("alice", do="slots", total=2) == {"ok": {"before": 4, "total": 2, "used": 0}}
    assert "no command" in answer("alice", do="halt")["error"]
    refused = answer("bob", do="status")
    assert "'bob' is not among the administrators" in refused["error"] and refused["is_last"]
    assert answer("bob", do="statistics", brief=True) == {"ok": {"for": "bob", "brief": True}}
    assert answer("bob", do="statistics", since=-1) == {"error": "ask again later"}
    # A member gets only one answer in each login.
    assert answer("member+pool", do="announce")["is_last"]
    assert 'user="bob"' in caplog.text and "not an administrator" in caplog.text
    control.close()


def test_who_was_removed_since_the_login_administers_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []

    def answer(_: object, request: object, reply: Reply) -> None:
        asked.append(request)
        reply('{"ok": {}}')

    place.sessions.on_request = answer
    removed: list[str] = []
    place.sessions.removal = lambda user: "this user was removed" if user in removed else ""
    _, control = place.attend()
    for users, expected in (
        ([], {"ok": {}}),
        (["alice"], {"error": "this user was removed", "is_last": True}),
    ):
        removed[:] = users
        control.send(b'{"administrator": "alice", "request": {"do": "status"}}')
        place.turn()
        assert json.loads(control.recv(1000)) == expected
    assert asked == [{"do": "status"}]
    late, control = place.attend()
    control.send(b'{"administrator": "alice", "request": {"do": "status"}}')
    place.turn()
    assert json.loads(control.recv(1000))["is_last"]
    assert (late.user, late.is_logging_in, len(asked)) == (None, False, 1)
    assert "audit refused from" in caplog.text
