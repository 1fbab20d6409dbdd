"""The demonstration: ``pserver demo``, which `make demo` runs."""
