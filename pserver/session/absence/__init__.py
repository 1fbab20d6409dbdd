"""A supervisor without its client, which may come back."""
