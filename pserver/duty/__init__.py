"""Which sessions a server accepts, and when: opening hours, limits on sessions, drain."""
