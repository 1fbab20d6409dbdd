"""Programs on the nodes: their requests, streams and exit status."""
