"""Asking a server that runs for something, by its control socket in the run-time folder."""
