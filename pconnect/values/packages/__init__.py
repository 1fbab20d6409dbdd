"""Values of packages that may be missing: one module for each, imported when needed. See `optional_types`."""
