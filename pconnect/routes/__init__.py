"""Routes between nodes: the addresses of servers, for the client and for other nodes, and relays."""
