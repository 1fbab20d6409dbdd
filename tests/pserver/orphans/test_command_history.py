"""An engine's record of commands, and the messages to a client that comes back."""

from typing import Any

from pconnect.link.connection import LIBRARY_TAGS, Connection
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import Message, encode_message
from pserver.orphans.command_history import CommandHistory
from tests.support.links import channels

LIMIT = 2**20


def message(number: int, value: object) -> list[bytes | memoryview]:
    return encode_message(Kind.VALUE, LIBRARY_TAGS + number, [False, value], LIMIT)


def told(history: CommandHistory, *waiting: tuple[int, str, bool], lost: int = 0) -> list[Message]:
    """Return the messages that a client receives."""
    near, far = channels()
    engine = Connection(0, "client", near, role=Role.ENGINE_DATA)
    client = Connection(1, "host", far, role=Role.CLIENT_DATA)
    heard: list[Message] = []
    client.on_message = heard.append
    client.on_library_value = lambda tag, value: heard.append(Message(Kind.VALUE, tag - LIBRARY_TAGS, value))
    history.tell(engine, waiting, lost)
    while engine.has_unsent:
        engine.flush()
        client.fill()
    client.fill()
    engine.close()
    client.close()
    return heard


def brief(messages: list[Message]) -> list[tuple[str, int, Any]]:
    return [(each.kind.name, each.tag, each.value) for each in messages]


def test_what_has_ended_runs_or_waits_is_told_in_order() -> None:
    history = CommandHistory(LIMIT)
    history.begin(1, "a = 1", has_value=False)
    history.end(1, 0.5, link=0)
    history.begin(3, "a", has_value=True)
    history.keep_value(3, message(3, 7), link=0)
    history.end(3, 0.25, link=0)
    history.begin(4, "work()", has_value=True)
    assert brief(told(history, (5, "later", False), lost=2)) == [
        ("KNOWN", 1, ["a = 1", False]),
        ("DONE", 1, [0.5, 0, 0, 0]),
        ("KNOWN", 3, ["a", True]),
        ("VALUE", 3, [False, 7]),
        ("DONE", 3, [0.25, 0, 0, 0]),
        ("KNOWN", 4, ["work()", True]),
        ("KNOWN", 5, ["later", False]),
        ("KNOWN", 0, 2),
    ]


def test_a_failure_is_told_without_the_values_that_were_sent_before() -> None:
    history = CommandHistory(LIMIT)
    history.begin(1, "1 / 0", has_value=True)
    failure = {"type": "ZeroDivisionError", "values_sent": 5}
    assert history.end(1, failure, link=0) == failure
    outcome = {
        "type": "ZeroDivisionError", "bases": ["ZeroDivisionError"], "message": "", "traceback": "", "seconds": 0.0
    }  # fmt: skip
    history.end(1, outcome | {"values_sent": 5}, link=0)
    assert told(history)[1].value[0] == outcome | {"values_sent": 0}


def test_the_oldest_values_go_first_and_the_client_is_told_which() -> None:
    history = CommandHistory(3000)
    for number in (1, 2, 3):
        history.begin(number, f"v{number}", has_value=True)
        history.keep_value(number, message(number, b"x" * 1200), link=0)
        history.end(number, 0.0, link=0)
    heard = told(history)
    assert [each.tag for each in heard if each.kind is Kind.VALUE] == [2, 3]
    lost = next(each for each in heard if each.kind is Kind.DONE and each.tag == 1).value[0]
    assert lost["type"] == "ConnectionLostError"
    assert "its value of 12" in lost["message"]
    history.forget(2)
    history.begin(4, "v4", has_value=True)
    history.keep_value(4, message(4, b"x" * 1200), link=0)
    assert [each.tag for each in told(history) if each.kind is Kind.VALUE] == [3, 4]


def test_a_value_that_is_too_large_is_lost_only_if_its_link_is() -> None:
    history = CommandHistory(100)
    history.begin(1, "big", has_value=True)
    history.keep_value(1, message(1, b"x" * 1000), link=0)
    assert history.end(1, 0.5, link=0) == 0.5
    outcome = history.end(1, 0.5, link=1)
    assert isinstance(outcome, dict)
    assert outcome["seconds"] == 0.5


def test_a_value_that_nobody_may_have_later_is_not_kept() -> None:
    history = CommandHistory(LIMIT)
    history.begin(1, "files.get", has_value=False)
    history.keep_value(1, message(1, b"x"), link=-1)
    assert history.end(1, 0.5, link=-1) == 0.5
    history.forget(1)
    history.forget(1)
    assert history.end(1, 0.5, link=-1) == 0.5
    assert brief(told(history)) == [("KNOWN", 0, 0)]


def test_the_last_commands_are_remembered_with_the_beginning_of_their_source() -> None:
    history = CommandHistory(LIMIT)
    for number in range(1, 301):
        history.begin(number, "s" * 5000, has_value=False)
    heard = told(history)
    assert len(heard) == 257
    assert heard[0].tag == 45
    assert heard[0].value == ["s" * 4096, False]
