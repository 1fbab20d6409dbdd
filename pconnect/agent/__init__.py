"""The agent: one process per user that keeps a network open and runs programs on it for all calls of `prun`."""
