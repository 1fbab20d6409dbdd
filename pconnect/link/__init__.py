"""The connection between two nodes: dialing, queue and inbox."""
