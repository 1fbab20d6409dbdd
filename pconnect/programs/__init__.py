"""Programs on the nodes: their streams, their exit status, and what is asked for them."""
