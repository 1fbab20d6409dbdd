"""One connection in the selector of a loop."""

import selectors

from pconnect.link.connection import Connection


class Registration:
    """The descriptor of a connection, and the events that it is registered for.

    It can be lent to a thread that waits for the descriptor itself, see `EventLoop.lend`.

    The descriptor is remembered here, because a connection that is lost has closed it already. After a reset a
    connection gets another registration: so what is known of its old link does not concern the new one.
    """

    __slots__ = ("_fileno", "_selector", "connection", "events", "is_lent")

    def __init__(self, selector: selectors.BaseSelector, connection: Connection) -> None:
        self.connection = connection
        self.events = 0  #: what the selector waits for; 0 if the descriptor is not registered
        self.is_lent = False  #: whether another thread waits for what arrives
        self._selector = selector
        self._fileno = connection.fileno()

    def wait_for(self, events: int) -> None:
        """Register for these events and no others; 0 ends the registration."""
        before, self.events = self.events, events
        if not events:
            if before:
                self._selector.unregister(self._fileno)
        elif before:
            self._selector.modify(self._fileno, events, self)
        else:
            self._selector.register(self._fileno, events, self)
