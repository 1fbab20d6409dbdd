"""Run a fuzzer, ``python -m tests.fuzz NAME --seconds 600``: `frames`, `login`, `answers` or `preamble`."""

import argparse
import tempfile
from pathlib import Path

from tests import fuzz_decoder
from tests.fuzz import hostile_server, strangers
from tests.support.servers import run_server


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=["frames", "login", "answers", "preamble"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.name == "frames":
        print(fuzz_decoder.run(10**9, options.seed, seconds=options.seconds))
        return
    with tempfile.TemporaryDirectory() as folder, run_server(Path(folder, "server")) as server:
        if options.name == "answers":
            count = hostile_server.run(server, options.seconds, options.seed)
        else:
            count = strangers.run(server, options.name, options.seconds, options.seed)
        print(f"{count} connections, seed {options.seed}: no harm")


if __name__ == "__main__":
    main()
