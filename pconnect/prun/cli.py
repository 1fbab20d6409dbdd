"""The parts of the command `prun` that run no program: help, version, and the state of the agent."""

import argparse
import os
import sys
from collections.abc import Sequence
from errno import ECONNREFUSED, ENOENT

from pconnect.errors import ConfigurationError
from pconnect.prun import fast_client
from pconnect.prun.options import HELP
from srp_tools.cli import run_command
from srp_tools.packages import ShowVersion

# The exit status of systemctl and of scripts in /etc/init.d (Linux Standard Base, section 22.2).
_NOT_RUNNING = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    `argv`: the arguments; ``None`` stands for those of the process. Returns the exit status: 3 if no agent is running,
    125 for a wrong argument of ``--agent``. Raises `SystemExit` for ``--version``.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    return run_command("prun", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="prun", add_help=False)
    parser.add_argument("--version", action=ShowVersion)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--agent", nargs="?", const="")
    options = parser.parse_args(arguments)
    if options.agent not in {None, "status", "stop"}:
        sys.stderr.write("prun: --agent takes status or stop; an agent starts when you run a program\n")
        return fast_client.OUR_FAILURE
    if options.help or not options.agent:
        sys.stdout.write(HELP)
        return 0
    environment = dict(os.environb)
    try:
        fast_client.dial(fast_client.agent_folder(environment), fast_client.agent_name(environment)).close()
    except fast_client.PrunError as error:
        raise ConfigurationError(str(error)) from None
    except OSError as error:
        if error.errno not in {ENOENT, ECONNREFUSED}:
            raise
        sys.stdout.write("no agent is running; the next prun starts one\n")
        return _NOT_RUNNING
    return fast_client.main([f"--agent-{options.agent}"])


if __name__ == "__main__":
    sys.exit(main())
