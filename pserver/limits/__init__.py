"""The limits of sessions and jobs, and the messages about them."""
