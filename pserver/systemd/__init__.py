"""The server as a service: its messages to systemd, and the units that start it."""
