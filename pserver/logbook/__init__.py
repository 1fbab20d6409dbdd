"""The format of log lines: as text, as JSON, and in the journal."""
