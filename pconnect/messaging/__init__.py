"""Values between nodes: `psend`, `precv`, and collective calls."""
