"""Send requests to a running server over its control socket in the run-time folder."""
