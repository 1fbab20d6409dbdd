"""Requests and output of the words of `pserver ctl`; `tests.integration.test_ctl` covers real servers."""

import json
from pathlib import Path

import pytest

from pserver.admin.ctl_commands import _LINES, _show, add_ctl, request_for
from pserver.admin.options import CommandParser
from pserver.cli import main
from pserver.config.log_options import LEVELS
from tests.support.places import use_private_places


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("word", "argument", "request_"),
    [
        ("kill", "17", {"do": "kill", "what": "17"}),
        ("forget", "10.0.0.66", {"do": "forget", "what": "10.0.0.66"}),
        ("slots", "4", {"do": "slots", "total": 4}),
        ("slots", "four", {"do": "slots", "total": "four"}),
        ("slots", "-1", {"do": "slots", "total": "-1"}),
        ("log-level", LEVELS[0], {"do": "log-level", "level": "debug"}),
        ("drain", "", {"do": "drain"}),
    ],
)
def test_a_request(word: str, argument: str, request_: dict[str, object]) -> None:
    assert request_for(word, argument) == request_


def test_what_was_forgotten_is_named() -> None:
    members = [{"name": "x\x1b", "addresses": ["10.0.0.66", "10.0.0.67"]}]
    assert _LINES["forget"]({"forgotten": members}) == ["Forgot the member x\\x1b at 10.0.0.66."]


def test_slots_before_and_after() -> None:
    assert _LINES["slots"]({"total": 4, "before": 2, "used": 2}) == ["4 slots instead of 2; 2 in use."]
    assert _LINES["slots"]({"total": 1, "before": 1, "used": 0}) == ["1 slot, as before; 0 in use."]


def test_sessions_are_a_table() -> None:
    row = {
        "session": 17, "user": "alice", "from": "192.0.2.1 port 5", "since": 0.0, "nodes": [1, 2], "commands": 3,
        "jobs": 4, "slots": 2, "idle": 61.9, "detached": False, "orphaned": None,
    }  # fmt: skip
    newcomer = {**row, "user": None, "slots": 0, "detached": True}
    orphan = {**row, "orphaned": 1.5}
    head, first, second, third = _LINES["sessions"]({"sessions": [row, newcomer, orphan]})[0].splitlines()
    assert head.split() == [
        "SESSION",
        "USER",
        "FROM",
        "SINCE",
        "NODES",
        "COMMANDS",
        "JOBS",
        "IDLE",
        "CLIENT",
    ]
    assert first.split()[-5:] == ["1,2", "3", "4", "0:01:01", "connected"]
    assert "(logging in)" in second and second.endswith("  detached")
    assert third.endswith("  orphaned")


def test_a_reload_says_what_has_changed_and_what_needs_a_restart() -> None:
    facts = {
        "changed": {"slots": [None, 4]},
        "restart": {"cmd_port": [1, 2]},
        "ended": [{"session": 17, "user": "bob", "why": "he is gone"}],
    }
    assert _LINES["reload"](facts) == [
        "slots: - -> 4",
        "cmd_port: 1 -> 2 (needs a restart)",
        "Ended session 17 of user bob: he is gone.",
    ]
    assert "No setting changed" in _LINES["reload"]({"changed": {}, "restart": {}, "ended": []})[0]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], "pserver ctl resume"),
        (["--name", "default"], "pserver ctl resume"),
        (["--name", "one"], "pserver ctl --name one resume"),
        (["--host", "alpha:12600", "--user", "al"], "pserver ctl --host alpha:12600 --user al resume"),
    ],
)
def test_the_command_that_undoes_a_drain_is_for_the_same_server(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = CommandParser()
    add_ctl(parser.add_subparsers())
    _show(parser.parse_args(["ctl", *words, "drain"]), "drain", {"sessions": 2})
    assert capsys.readouterr().out.splitlines()[-1] == f"To accept sessions again: {command}"
    parser.parse_args(command.split()[1:])


def test_without_a_server_each_word_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["sessions"], ["slots", "4"], ["stop"], ["exit"], ["quit"], ["status"]):
        assert main(["ctl", *words, "--name", "one"]) == 3
        assert main(["ctl", "--name", "one", *words]) == 3
    assert main(["reload"]) == 3
    assert set(capsys.readouterr().err.splitlines()) == {
        "pserver: no server named 'one' is running",
        "pserver: no server named 'default' is running",
    }


def test_wrong_usage_is_status_two(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["halt"], ["slots"], ["drain", "now"]):
        with pytest.raises(SystemExit) as caught:
            main(["ctl", *words])
        assert caught.value.code == 2
    assert json.dumps(capsys.readouterr().err)
