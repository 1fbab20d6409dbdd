"""What arrives at the ports: who it is, and whose turn it is to log in."""
