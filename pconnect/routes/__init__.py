"""Ways from node to node: where a server is, as its client and as other nodes reach it."""
