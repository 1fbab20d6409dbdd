"""A single job: its future, the data sent with it, and its result."""
