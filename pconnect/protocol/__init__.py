"""Bytes to messages and back: layout, kinds, limits, without I/O."""
