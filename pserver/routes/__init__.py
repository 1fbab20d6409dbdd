"""Connections between engines: the addresses of other nodes, and relays for nodes that cannot reach each other."""
