"""The process that forks sessions, and the daemon's hold on it."""
