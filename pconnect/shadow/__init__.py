"""The command `pshadow`: run programs, above all compilers, on servers without changing the commands that call them."""
