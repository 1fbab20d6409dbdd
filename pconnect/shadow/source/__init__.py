"""Source on its way to a machine that compiles it."""
