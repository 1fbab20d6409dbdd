"""A network that runs everything in this process, for use with debuggers."""
