"""The servers of a pool: how a client finds all of them through those that it knows."""
