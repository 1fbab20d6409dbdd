"""The other servers that a server knows: those that announce themselves to it, and those it announces itself to."""
