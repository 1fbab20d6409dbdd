"""A session without an engine: it forwards a user's requests to the daemon, and the answers back.

The daemon knows the user from the session's login and decides whether the user may make the request; see
`pserver.daemon.control.control`. The session forwards requests unchanged. It reads one key itself: after a request with
``"stay": true`` it accepts another one, if the daemon permits.
"""

import json
import select
import signal
import socket
from typing import Any

from pconnect.link.dialing import receive_packed, send_packed
from pconnect.protocol.frames import HELLO
from pconnect.values import decoder
from pserver.ctl.asking import MAX_REQUEST_BYTES
from pserver.ctl.long_messages import receive_long
from srp_tools.channel import Channel
from srp_tools.errors import ParallelError
from srp_tools.steps import deadline_after, run

# Time limit for the first request, which clients send immediately. Until then the login occupies a place in the queue.
_FIRST_SECONDS = 5.0
_SILENCE_SECONDS = 60.0  # a client that sends nothing for this long counts as gone
_ANSWER_SECONDS = 60.0  # time limit for the daemon to answer, and for the client to receive the answer
PART_BYTES = 2**15  # part size of an answer, which may be long


def serve_administrator(channel: Channel, user: str, control: socket.socket) -> None:
    """Forward requests until the client or the daemon is gone; then close both. `control`: the socket to the daemon."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the last answer may report that the server stops
    control.settimeout(_ANSWER_SECONDS)
    try:
        with control:
            run(channel.send_all(HELLO), deadline_after(_ANSWER_SECONDS))
            stays, patience = True, _FIRST_SECONDS
            while stays:
                request = _read(run(receive_packed(channel), deadline_after(patience)))
                control.send(json.dumps({"administrator": user, "request": request}).encode())
                answer = receive_long(control)
                if not answer:
                    return
                _send(channel, answer)
                may_stay = request.get("stay") is True and not json.loads(answer).get("is_last")
                stays, patience = may_stay and _is_asked_again(channel, control), _ANSWER_SECONDS
    except (ParallelError, OSError):  # client or daemon is gone, or the client sent an invalid message
        return
    finally:
        channel.close()


def _is_asked_again(channel: Channel, control: socket.socket) -> bool:
    """Wait for another request or for the end of either side; return whether the client has sent something."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    poll.register(control, select.POLLIN)
    ready = dict(poll.poll(_SILENCE_SECONDS * 1000))
    # The daemon sends nothing unasked, so readable means closed.
    return channel.fileno() in ready and control.fileno() not in ready


def _read(data: bytes) -> dict[str, Any]:
    """Return a request; an empty one if it is invalid."""
    request: Any = decoder.unpack(data)
    try:
        is_right = isinstance(request, dict) and len(json.dumps(request)) <= MAX_REQUEST_BYTES // 2
    except (TypeError, ValueError):
        is_right = False
    return request if is_right else {}


def _send(channel: Channel, answer: bytes) -> None:
    parts = [answer[begin : begin + PART_BYTES] for begin in range(0, len(answer), PART_BYTES)]
    deadline = deadline_after(_ANSWER_SECONDS)
    for number, part in enumerate(parts):
        steps = send_packed(channel, {"part": part, "is_last": number == len(parts) - 1})
        run(steps, deadline)
