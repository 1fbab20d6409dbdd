"""Attacks on running servers, and processes that fail: what must stand, and what the others see."""
