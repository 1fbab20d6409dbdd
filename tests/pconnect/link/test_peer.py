"""A peer about which nothing is known."""

from pconnect.link.peer import Peer, RemovedNode


def test_nothing_is_known() -> None:
    peer = Peer()
    peer.check()
    peer.check_epoch(3)
    peer.interrupt()
    peer.cancel(1)
    peer.kill()
    assert peer.busy  # as far as is known
    assert (peer.settle(0.0), list(peer.sources()), peer.explain(), peer.explain(3)) == ("", [], None, None)


def test_of_one_that_was_removed_nothing_comes_and_nothing_helps() -> None:
    peer = RemovedNode()
    assert not peer.busy
    assert peer.remedy(None) == "; its number is not reused, choose other nodes"
