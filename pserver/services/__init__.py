"""The services that clients call by name in an engine."""
