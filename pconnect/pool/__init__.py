"""The servers of a pool: how a client finds all of them through the servers that it knows."""
