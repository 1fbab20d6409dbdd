"""A network that runs everything in this process, for debuggers."""
