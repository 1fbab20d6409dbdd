"""One client's session on the server: login, supervisor, workers."""
