"""Jobs on the server: shared status, and the store of detached jobs."""
