"""The client's view of its servers: login, calls, restart, deadlocks."""
