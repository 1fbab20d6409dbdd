"""The process that accepts connections, starts sessions and allocates slots."""
