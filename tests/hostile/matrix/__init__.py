"""A fault in each kind of process during each kind of client work: the visible effects, and no lasting damage."""
