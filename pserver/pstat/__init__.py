"""The command `pstat`: show the work of servers in the terminal or in a browser."""
