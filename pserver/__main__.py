"""Lets ``python -m pserver`` do what the command `pserver` does."""

import sys

from pserver.command import main

if __name__ == "__main__":
    sys.exit(main())
