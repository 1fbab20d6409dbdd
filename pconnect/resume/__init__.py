"""Coming back to the sessions of a client that has vanished."""
