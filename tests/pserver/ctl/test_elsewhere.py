import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from pconnect.errors import ConfigurationError, ProtocolError
from pconnect.link.dialing import send_packed
from pconnect.values import encoder
from pserver.ctl.elsewhere import request_over
from srp_tools.channel import Channel
from srp_tools.steps import Steps, deadline_after, run_all
from tests.support.waiting import DEADLINE


def asked(*parts: object) -> Any:
    """Return the outcome of a request whose answer has these parts."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    near, far = map(Channel, ends)

    def answer() -> Steps[None]:
        size = yield from far.receive_exactly(2)
        data = yield from far.receive_exactly(int.from_bytes(size, "big"))
        assert data == encoder.pack({"do": "status"})
        for part in parts:
            yield from send_packed(far, part)

    steps: Mapping[str, Steps[Any]] = {
        "asked": request_over(near, {"do": "status"}, "beta"),
        "answered": answer(),
    }
    outcomes = run_all(steps, deadline_after(DEADLINE))
    near.close()
    far.close()
    assert not isinstance(outcomes["answered"], Exception)
    return outcomes["asked"]


def test_an_answer_comes_in_parts() -> None:
    data = json.dumps({"ok": {"slots": 4}}).encode()
    assert asked({"part": data[:5], "is_last": False}, {"part": data[5:], "is_last": True}) == {"slots": 4}


@pytest.mark.parametrize(
    ("part", "kind", "text"),
    [
        ({"part": b'{"error": "no word"}', "is_last": True}, ConfigurationError, "beta: no word"),
        ({"part": b"{}", "is_last": True}, ProtocolError, "beta sent an invalid answer"),
        ({"part": 5, "is_last": True}, ProtocolError, "too long or malformed"),
        ([], ProtocolError, "too long or malformed"),
    ],
)
def test_what_is_no_answer_is_an_error(part: object, kind: type[Exception], text: str) -> None:
    error = asked(part)
    assert isinstance(error, kind) and text in str(error)
