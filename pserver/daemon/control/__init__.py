"""Administration of a running daemon, by its control socket, a signal or a session."""
