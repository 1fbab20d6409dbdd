"""The event loop of a network: waits, deadlines and Ctrl-C."""
