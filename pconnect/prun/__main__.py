"""``python -m pconnect.prun``: the same as the command `prun`."""

import sys

from pconnect.prun.fast_client import main

sys.exit(main())
