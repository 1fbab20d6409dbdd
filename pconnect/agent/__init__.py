"""The agent: a process for each user that keeps one network, and runs programs there for all calls of `prun`."""
