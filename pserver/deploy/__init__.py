"""``pserver deploy``: install and start servers on other machines, over the user's own ssh."""
