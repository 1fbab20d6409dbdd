"""Attacks on running servers, and failing processes: what must survive, and what other processes see."""
