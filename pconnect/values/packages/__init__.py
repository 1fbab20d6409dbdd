"""Values of packages that may be missing: a module for each, imported when it is needed. See `optional_types`."""
