"""The work and state of servers: their documents, and tables made from them."""
