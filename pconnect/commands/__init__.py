"""Commands as futures: their results, errors and output."""
