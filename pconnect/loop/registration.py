"""The registration of a connection in the selector of a loop."""

import selectors

from pconnect.link.connection import Connection


class Registration:
    """The descriptor of a connection, and the events for which it is registered.

    It can be lent to a thread that waits for the descriptor itself, see `EventLoop.lend`.

    It stores the descriptor, because a lost connection has already closed it. After a reset, a connection gets a new
    registration, so old information about its previous link does not affect the new one.
    """

    __slots__ = ("_fileno", "_selector", "connection", "events", "is_lent")

    def __init__(self, selector: selectors.BaseSelector, connection: Connection) -> None:
        self.connection = connection
        self.events = 0  #: the registered events; 0 if the descriptor is not registered
        self.is_lent = False  #: whether another thread waits for data
        self._selector = selector
        self._fileno = connection.fileno()

    def wait_for(self, events: int) -> None:
        """Register for exactly these events; 0 ends the registration."""
        before, self.events = self.events, events
        if not events:
            if before:
                self._selector.unregister(self._fileno)
        elif before:
            self._selector.modify(self._fileno, events, self)
        else:
            self._selector.register(self._fileno, events, self)
