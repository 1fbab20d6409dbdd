"""A socket in the run-time folder whose path gets removed."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system.kept_socket import KeptSocket
from tests.support.servers import open_files


class Place:
    """The kept socket, and its listening sockets so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listening: list[socket.socket] = []
        self.kept = KeptSocket(
            path, socket.SOCK_STREAM, self.listening.append, self.listening.remove, "nobody comes"
        )

    def is_found(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self.path))
            except OSError:
                return False
        return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "pserver").mkdir(mode=0o700)
    made = Place(tmp_path / "pserver" / "default.socket")
    assert made.kept.keep()
    yield made
    made.kept.close()


def test_it_is_made_once_while_its_path_is_there(place: Place) -> None:
    [first] = place.listening
    assert place.kept.keep()
    assert place.listening == [first]
    assert not first.getblocking()
    assert place.is_found()


@pytest.mark.parametrize("is_replaced", [False, True])
def test_it_listens_again_where_its_path_was_removed(place: Place, is_replaced: bool) -> None:
    before = open_files()
    [first] = place.listening
    place.path.unlink()
    if is_replaced:
        place.path.write_text("something else")
    assert not place.is_found()
    assert place.kept.keep()
    assert place.is_found()
    assert first not in place.listening
    assert len(place.listening) == 1
    assert open_files() == before


def test_where_it_cannot_listen_is_logged_once_and_tried_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(place.path.parent)
    assert not place.kept.keep()
    assert not place.kept.keep()
    assert caplog.text.count("nobody comes: cannot listen on") == 1
    assert place.listening == []
    place.path.parent.mkdir(mode=0o700)
    assert place.kept.keep()
    assert place.is_found()


def test_its_end_removes_its_path_and_no_other(place: Place) -> None:
    place.path.unlink()
    place.path.write_text("that of another")
    place.kept.close()
    assert place.path.exists()
    assert place.kept.keep()
    place.kept.close()
    assert not place.path.exists()
    assert place.listening == []
