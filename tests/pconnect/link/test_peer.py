"""A peer about which nothing is known."""

from pconnect.link.peer import Peer


def test_nothing_is_known() -> None:
    peer = Peer()
    peer.check()
    peer.check_epoch(3)
    peer.interrupt()
    peer.cancel(1)
    peer.kill()
    assert peer.busy  # as far as can be known
    assert (peer.settle(0.0), list(peer.sources()), peer.explain(), peer.explain(3)) == ("", [], None, None)
