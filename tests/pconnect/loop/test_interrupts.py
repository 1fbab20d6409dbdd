"""What Ctrl-C does to those who were waited for; with the library's own peers, the tests of commands go further."""

import pytest

from pconnect.link.peer import Peer
from pconnect.loop.interrupts import interrupting


class Recorder(Peer):
    def __init__(self, busy: str = "") -> None:
        self.heard: list[object] = []
        self.busy_words = busy

    def interrupt(self, up_to: int | None = None) -> None:
        self.heard.append(("interrupt", up_to))

    def settle(self, deadline: float) -> str:  # noqa: ARG002
        if self.busy_words == "raise":
            raise KeyboardInterrupt
        return self.busy_words

    def kill(self, up_to: int | None = None) -> None:
        self.heard.append(("kill", up_to))


def test_all_are_interrupted_and_the_busy_are_named() -> None:
    quick, slow = Recorder(), Recorder("node 2 (b)")
    with pytest.raises(KeyboardInterrupt) as error, interrupting([quick, slow], 7):
        raise KeyboardInterrupt
    assert quick.heard == slow.heard == [("interrupt", 7)]
    assert "node 2 (b) has not ended yet" in error.value.__notes__[0]


def test_a_second_one_kills() -> None:
    peer = Recorder("raise")
    with pytest.raises(KeyboardInterrupt), interrupting([peer], 7):
        raise KeyboardInterrupt
    assert peer.heard == [("interrupt", 7), ("kill", 7)]


def test_other_errors_are_nobodys_business() -> None:
    peer = Recorder()
    with pytest.raises(TimeoutError), interrupting([peer]):
        raise TimeoutError
    assert peer.heard == []
