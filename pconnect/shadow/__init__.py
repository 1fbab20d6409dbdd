"""The command `pshadow`: programs, compilers above all, whose work goes to servers without their users' doing."""
