"""A fault for each kind of process while a client does each kind of work: what is seen, and that nothing breaks."""
