"""What user code shows: displays, log records, figures, standard input."""
