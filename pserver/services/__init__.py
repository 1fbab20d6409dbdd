"""What clients call by name in an engine."""
