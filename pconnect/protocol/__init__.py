"""Bytes to messages and back: layout, kinds and limits. Sans-I/O."""
