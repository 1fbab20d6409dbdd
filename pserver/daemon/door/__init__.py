"""Arriving connections: what each one is, and which client may log in next."""
