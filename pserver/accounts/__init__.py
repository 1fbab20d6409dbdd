"""Unix accounts of users: which one a user has, and how a process becomes it."""
