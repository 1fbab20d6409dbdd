"""The commands `prun` and `prun-ssh`, which run any program on any server: options, rules and the client process."""
