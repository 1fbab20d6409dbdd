"""Fuzzers: inputs that our clients never send, generated from a seed; see `tests.fuzz.__main__`."""
