"""The server as a service: how it talks with systemd, the units that start it, and a recipe for a container."""
