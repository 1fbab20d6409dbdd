import os
import signal
import socket
import subprocess

import pytest

from pserver.daemon.held_session import LoginFailure, Node, Session, count_of
from pserver.starter.session_starts import Started
from tests.support.waiting import DEADLINE


def session_of(pidfd: int) -> Session:
    with socket.socket() as control:
        return Session(Started(7, pidfd, control, lambda _: None), "here", 0.0)


def test_a_login_goes_on_until_there_is_an_outcome() -> None:
    assert session_of(-1).is_logging_in
    for name, value in (
        ("user", "alice"),
        ("failure", LoginFailure("alice", "no", True)),
        ("has_ended", True),
    ):
        session = session_of(-1)
        setattr(session, name, value)
        assert not session.is_logging_in


def test_a_signal_reaches_the_process_and_no_other() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        pidfd = os.pidfd_open(process.pid)
        session = session_of(pidfd)
        session.signal(signal.SIGKILL)
        assert process.wait(DEADLINE) == -signal.SIGKILL
        session.signal(signal.SIGKILL)  # it has ended, and another process may have its pid
        os.close(pidfd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        session.signal(signal.SIGKILL)


def test_a_count_is_a_number() -> None:
    assert [count_of(told) for told in (3, 0, -1, "3", None, 2.0)] == [3, 0, 0, 0, 0, 0]


def test_a_session_is_orphaned_since_the_first_of_its_nodes_was_if_all_are() -> None:
    session = session_of(-1)
    nodes = [Node(session, session.started.control, number) for number in (1, 2)]
    session.nodes += nodes
    session.nodes.append(Node(session, session.started.control))  # of a client that is just logging in
    assert session.orphaned_since is None
    nodes[0].note_absence({"orphaned": 12.5})
    assert session.orphaned_since is None
    nodes[1].note_absence({"orphaned": 12.25})
    assert session.orphaned_since == 12.25
    nodes[1].note_absence({"orphaned": None})
    assert (session.orphaned_since, nodes[0].is_detached) == (None, False)
    nodes[0].note_absence({"detached": True})
    assert (nodes[0].is_detached, nodes[0].orphaned_since) == (True, None)
