"""Output of user code other than text: displays, log records and figures; and the missing standard input."""
