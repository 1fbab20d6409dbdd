"""Makes ``python -m pserver`` run the command `pserver`."""

import sys

from pserver.command import main

if __name__ == "__main__":
    sys.exit(main())
