"""The Unix accounts of users: which account a user has, and how a process switches to it."""
