"""What others ask the daemon for while it runs, and what it then does: by the control socket, a signal or a session."""
