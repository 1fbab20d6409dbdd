"""Fuzzers: inputs that no client of ours sends, made from a seed; see `tests.fuzz.__main__`."""
