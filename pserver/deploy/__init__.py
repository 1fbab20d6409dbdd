"""``pserver deploy``: servers on other machines, installed and started over the user's own ssh."""
