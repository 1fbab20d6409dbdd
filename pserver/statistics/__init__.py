"""Statistics of a server: its work and its state, as counts, over the last hour, and by slot."""
