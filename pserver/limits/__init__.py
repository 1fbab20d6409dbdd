"""What a session and a job may use, and what is said when that is not enough."""
