"""Run a fuzzer: ``python -m tests.fuzz NAME --seconds 600 --seed 1``.

`frames`: a decoder's input. `preamble`: strangers on the data port. `login`: strangers and tampered clients on the
command port. `answers`: tampered servers, for a client. `control`: a session's messages to the daemon, also when it
returns. `starter`: messages between the daemon and the process that starts sessions. `spawner`: messages of a session
to the process that starts engines. `connection`: a client that has logged in, or user code in an engine, on the
connections of a network.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests import fuzz_decoder
from tests.fuzz import between, connection, control, spawner, starter, strangers
from tests.support.servers import Server, run_server


def login(server: Server, seconds: float, seed: int) -> int:
    """Change ClientHellos for half of the time, and later messages of clients for the other half."""
    hellos = strangers.run(server, "login", seconds / 2, seed)
    return hellos + between.run(server, between.CLIENT, seconds / 2, seed)


#: Fuzzers of a real server; each returns its number of inputs.
AT_SERVERS: dict[str, Callable[[Server, float, int], int]] = {
    "preamble": lambda server, seconds, seed: strangers.run(server, "preamble", seconds, seed),
    "login": login,
    "answers": lambda server, seconds, seed: between.run(server, between.SERVER, seconds, seed),
    "control": control.run,
    "connection": connection.run,
    "starter": starter.run,
    "spawner": spawner.run,
}


def main() -> None:
    """Run the fuzzer named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["frames", *AT_SERVERS])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.name == "frames":
        print(fuzz_decoder.run(10**9, options.seed, seconds=options.seconds))
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with run_server(Path(folder, "server"), *between.OPTIONS) as server:
            count = AT_SERVERS[options.name](server, options.seconds, options.seed)
        print(f"{count} inputs, {count / options.seconds:.0f} per second, seed {options.seed}: no harm")


if __name__ == "__main__":
    main()
