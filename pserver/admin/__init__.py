"""The `pserver` command and its counterpart in Python."""
