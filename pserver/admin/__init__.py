"""Start, find and stop servers, and the options that they take."""
