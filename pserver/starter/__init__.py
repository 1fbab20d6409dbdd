"""The process that forks sessions, and the daemon's handle on it."""
