"""Resuming the sessions of a client that has vanished."""
