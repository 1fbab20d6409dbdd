"""The message of a node to a daemon that was started again."""

import json
import os
import socket
from pathlib import Path

from pconnect.link.local_link import listen
from pserver.session.way_back import WayBack
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE


def test_it_says_all_that_a_daemon_must_know(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ends = [socket.socketpair() for _ in range(3)]
    before = open_files()
    way = WayBack(tmp_path / "x.sessions", {"user": "alice", "node": 2}, [theirs for _, theirs in ends])
    with listen(tmp_path / "x.sessions", socket.SOCK_SEQPACKET) as listener:
        sock = way.dial(is_detached=True)
        assert sock is not None
        with sock, listener.accept()[0] as daemon:
            daemon.settimeout(DEADLINE)
            data, descriptors, _, _ = socket.recv_fds(daemon, 4096, 5)
            assert json.loads(data) == {
                "back": {"user": "alice", "node": 2, "pid": os.getpid(), "detached": True}
            }
            assert len(descriptors) == 4
            assert f"Pid:\t{os.getpid()}\n" in Path(f"/proc/self/fdinfo/{descriptors[0]}").read_text()
            for descriptor in descriptors:
                os.close(descriptor)
    assert open_files() == before
    for pair in ends:
        for end in pair:
            end.close()


def test_without_a_daemon_there_is_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    before = open_files()
    assert WayBack(tmp_path / "x.sessions", {}, []).dial(is_detached=False) is None
    listen(tmp_path / "x.sessions", socket.SOCK_SEQPACKET).close()  # a killed daemon leaves the path behind
    assert WayBack(tmp_path / "x.sessions", {}, []).dial(is_detached=False) is None
    assert open_files() == before


def test_a_folder_that_others_can_enter_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with listen(tmp_path / "x.sessions", socket.SOCK_SEQPACKET):
        tmp_path.chmod(0o755)
        assert WayBack(tmp_path / "x.sessions", {}, []).dial(is_detached=False) is None
