"""Values to bytes and back: what crosses the wire, of which types, without I/O."""
