"""What outlives a client that has vanished, and how another process of its user comes back to it."""
