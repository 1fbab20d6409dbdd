"""The process that starts and ends the engines of a session."""
