"""The commands `prun` and `prun-ssh`: any program on any server, and the process that keeps the network for them."""
