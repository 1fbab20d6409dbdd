"""State that outlives a client that has vanished, and the way for another process of its user to come back to it."""
