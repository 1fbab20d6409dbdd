"""The command `pstat`: what servers do, in the terminal."""
