"""The registration of a connection in a selector."""

import selectors

from pconnect.loop.registration import Registration
from tests.support.links import connection_pair

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


def test_it_is_registered_for_what_was_asked_last() -> None:
    left, right = connection_pair()
    with selectors.DefaultSelector() as selector:
        registration = Registration(selector, left)
        for events in (0, READ, READ | WRITE, WRITE, 0, READ, 0):
            registration.wait_for(events)
            entries = selector.get_map().values()
            assert [(entry.events, entry.data) for entry in entries] == [(events, registration)] * bool(
                events
            )
            assert registration.events == events
    left.close()
    right.close()


def test_it_ends_although_the_connection_has_closed_its_descriptor() -> None:
    left, right = connection_pair()
    with selectors.DefaultSelector() as selector:
        registration = Registration(selector, left)
        registration.wait_for(READ)
        left.close()
        registration.wait_for(0)
        assert not selector.get_map()
    right.close()
