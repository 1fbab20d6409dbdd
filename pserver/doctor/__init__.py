"""``pserver doctor``: check this machine, report problems, and suggest remedies."""
