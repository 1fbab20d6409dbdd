"""Values to bytes and back: the supported types and their encoding. Sans-I/O."""
