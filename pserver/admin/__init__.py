"""Start, find and stop servers; read and document their options."""
