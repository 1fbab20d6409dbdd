"""The event loop of a network: waiting, deadlines, Ctrl-C."""
