"""Rules for user names and passwords: their normal form, and which passwords are too weak."""
