"""What a line of the log looks like: as text, as JSON, and in the journal."""
