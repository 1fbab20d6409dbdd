"""``python -m pconnect.prun`` is the command `prun`."""

import sys


def _main() -> int:
    if not sys.platform.startswith("linux"):
        sys.stderr.write(f"prun is not supported on {sys.platform}: it needs Linux\n")
        return 125
    from pconnect.prun.fast_client import main  # noqa: PLC0415 - it imports Linux-only modules

    return main()


if __name__ == "__main__":
    sys.exit(_main())
