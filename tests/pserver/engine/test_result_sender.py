"""Results of a worker: sent immediately, held back in its page, or written to the store."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect.errors import ConnectionLostError, MessageTooLargeError
from pconnect.jobs.job import PLAIN
from pconnect.link.connection import Connection
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import decode_messages
from pserver.engine.result_sender import ResultSender
from pserver.jobs.job_store import JobStore, digest_of
from pserver.jobs.shared_status import RESULT_BYTES, SharedStatus
from pserver.services.files import SessionFiles
from pserver.services.kept_results import KeptResults
from tests.support.links import channels
from tests.support.workers import Far

MAX_BYTES = 2**20


class Link:
    """A sender, its page, and the client's and the supervisor's ends."""

    def __init__(self, folder: Path) -> None:
        memory = SharedStatus.make()
        self.page = SharedStatus(memory)
        os.close(memory)
        self.pipe, self.supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sender = ResultSender(self.pipe, self.page, MAX_BYTES, KeptResults(SessionFiles(folder, 0)))
        self._channels = channels()
        self.sender.connection = Connection(0, "client", self._channels[0], role=Role.WORKER)
        self.client = Far(self.sender.connection, self._channels[1], Role.EMPLOYER)

    def close(self) -> None:
        self.page.close()
        for end in (self.pipe, self.supervisor, *self._channels):
            end.close()

    def waiting(self) -> list[int]:
        """Return the jobs whose results the supervisor would find in the page."""
        results = self.page.results(self.page.read().unsent)
        return [message.tag for message in decode_messages(Role.EMPLOYER, bytes(results))]


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    link = Link(tmp_path)
    yield link
    link.close()


def result(value: object) -> list[Any]:
    return [PLAIN, value, 1.0, 0.5]


def test_small_results_wait_in_the_page_and_go_together(link: Link) -> None:
    for number in (1, 2, 3):
        link.sender.send(number, result(number))
    assert link.waiting() == [1, 2, 3] and link.client.messages() == []
    link.sender.flush()
    assert link.waiting() == []
    assert link.client.messages() == [(Kind.RESULT, number, result(number)) for number in (1, 2, 3)]


def test_a_report_or_a_large_result_takes_the_others_with_it(link: Link) -> None:
    link.sender.send(1, result("small"))
    link.sender.report(2, "half")
    link.sender.send(2, result("small"))
    link.sender.send(3, result(b"x" * (RESULT_BYTES // 4 + 1)))
    assert [(kind, tag) for kind, tag, _ in link.client.messages()] == [
        (Kind.RESULT, 1),
        (Kind.REPORT, 2),
        (Kind.RESULT, 2),
        (Kind.RESULT, 3),
    ]


def test_a_full_page_is_sent(link: Link) -> None:
    count = RESULT_BYTES // 4000 + 1
    for number in range(count):
        link.sender.send(number, result(b"x" * 4000))
    (last,) = link.waiting()
    assert [tag for _, tag, _ in link.client.messages()] == list(range(count - 1)) and last == count - 1


def test_what_is_too_large_is_refused_and_nothing_is_sent(link: Link) -> None:
    link.sender.send(1, result(1))
    with pytest.raises(MessageTooLargeError):
        link.sender.send(2, result(b"x" * MAX_BYTES))
    assert link.waiting() == [1] and link.client.messages() == []


def test_once_the_client_has_left_results_go_into_the_store(link: Link, tmp_path: Path) -> None:
    store = JobStore.make(tmp_path, bytes(16), 1, "alice", digest_of(b"secret"))
    link.sender.send(1, result("before"))
    link.page.detach()
    link.supervisor.send(f"spool {store.folder}".encode())
    link.sender.send(2, result(b"x" * 2**16))
    link.sender.report(3, "of no use")
    assert store.results() == {1, 2}
    assert link.client.messages() == [] and not link.page.is_sending()


def test_a_client_that_is_gone_is_sent_nothing(link: Link) -> None:
    link.sender.connection.lose(ConnectionLostError("gone"))
    link.sender.report(1, "half")
    link.sender.send(1, result(1))
    link.sender.flush()
    assert link.waiting() == []
