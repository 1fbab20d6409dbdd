"""When a server takes sessions, and which: opening hours, counts, drain."""
