"""Jobs on the server: shared status, the store of detached jobs."""
