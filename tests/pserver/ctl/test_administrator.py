"""A session without an engine, between sockets that stand for the client and the daemon."""

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pconnect.link.dialing import expect_hello, receive_packed, send_packed
from pconnect.values import decoder
from pserver.ctl.administrator import PART_BYTES, serve_administrator
from pserver.ctl.long_messages import send_long
from srp_tools.channel import Channel
from srp_tools.steps import deadline_after, run
from tests.support.waiting import DEADLINE


class Place:
    """The client's channel, and the daemon's end of the socket."""

    def __init__(self, stack: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        self.daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.daemon.settimeout(DEADLINE)
        stack.enter_context(self.daemon)
        for end in (ours, theirs):
            end.setblocking(False)
        self.client = Channel(ours)
        stack.callback(self.client.close)
        before = signal.getsignal(signal.SIGTERM)
        stack.callback(signal.signal, signal.SIGTERM, before)
        # Only the main thread can set a signal handler, so the client runs in the other thread.
        self.serve: Callable[[], None] = lambda: serve_administrator(Channel(theirs), "alice", control)

    def ask(self, request: object) -> bytes:
        """Return the answer to a request."""
        deadline = deadline_after(DEADLINE)
        run(send_packed(self.client, request), deadline)
        answer = b""
        while True:
            told = decoder.unpack(run(receive_packed(self.client), deadline))
            assert isinstance(told, dict)
            part: bytes = told["part"]
            answer += part
            if told["is_last"]:
                return answer


@pytest.fixture
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack)


def test_requests_and_answers_are_passed_on_whatever_they_are(place: Place) -> None:
    heard: list[object] = []
    answers: list[bytes] = []
    long = json.dumps({"ok": "x" * 3 * PART_BYTES}).encode()

    def be_client() -> None:
        run(expect_hello(place.client), deadline_after(DEADLINE))
        answers.append(place.ask({"do": "kill", "what": "bob", "stay": True}))
        answers.append(place.ask({"do": "status"}))  # the last request: the session ends

    def be_daemon() -> None:
        while data := place.daemon.recv(10_000):
            heard.append(json.loads(data))
            send_long(place.daemon, long if len(heard) == 1 else b"{}")

    threads = [threading.Thread(target=each) for each in (be_client, be_daemon)]
    for thread in threads:
        thread.start()
    place.serve()
    for thread in threads:
        thread.join(DEADLINE)
    requests = ({"do": "kill", "what": "bob", "stay": True}, {"do": "status"})
    assert heard == [{"administrator": "alice", "request": request} for request in requests]
    assert answers == [long, b"{}"]


@pytest.mark.parametrize("request_", [7, {"do": b"\xff"}, {"do": "x" * 5000}, {"do": 10**5000}])
def test_what_makes_no_sense_is_an_empty_request(place: Place, request_: object) -> None:
    place.daemon.send(b"{}")
    run(send_packed(place.client, request_), deadline_after(DEADLINE))
    place.serve()
    assert json.loads(place.daemon.recv(10_000)) == {"administrator": "alice", "request": {}}


def test_one_that_stays_ends_at_once_when_the_daemon_wants_that(place: Place) -> None:
    place.daemon.send(b"{}")
    run(send_packed(place.client, {"do": "status", "stay": True}), deadline_after(DEADLINE))
    place.daemon.shutdown(socket.SHUT_WR)  # the daemon ends after the answer, while the client is silent
    place.serve()


def test_it_ends_with_the_daemon(place: Place) -> None:
    run(send_packed(place.client, {"do": "stop"}), deadline_after(DEADLINE))
    place.daemon.close()
    place.serve()
    run(expect_hello(place.client), deadline_after(DEADLINE))
    with pytest.raises(ConnectionError):
        run(receive_packed(place.client), deadline_after(DEADLINE))


def test_it_ends_after_the_refusal_of_a_user_who_is_no_administrator(place: Place) -> None:
    place.daemon.send(b'{"error": "no administrator", "is_last": true}')
    run(send_packed(place.client, {"do": "stop"}), deadline_after(DEADLINE))
    place.serve()  # the client stays connected and could make another request
    run(expect_hello(place.client), deadline_after(DEADLINE))
    told = decoder.unpack(run(receive_packed(place.client), deadline_after(DEADLINE)))
    assert isinstance(told, dict) and b"no administrator" in told["part"]
    with pytest.raises(ConnectionError):
        run(receive_packed(place.client), deadline_after(DEADLINE))
