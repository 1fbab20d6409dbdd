"""The options and the output of ``pserver deploy``."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from pconnect.profiles import config_file
from pserver.admin.options import add_options, config_of
from pserver.deploy.deploy import Deployment, Outcome
from pserver.deploy.host_list import add_hosts, hosts_line, remove_hosts
from pserver.deploy.plan import make_plan, parse_targets
from pserver.deploy.ssh import Ssh
from srp_tools.errors import ConfigurationError

_INSTALL_SECONDS = 900.0  # for downloading packages to a slow disk

DESCRIPTION = """\
Install this version on other machines over ssh, copy the servers' login files there, start a server on each, and
check that this machine and all hosts can reach each other. Steps that are already done are skipped.
"""


def add_deploy_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's own options, and those of a server."""
    add = parser.add_argument
    add(
        "hosts",
        nargs="+",
        metavar="HOST",
        help="the host as you give it to ssh, which must connect without asking for anything",
    )
    add(
        "--remove",
        action="store_true",
        help="Stop the servers, and remove everything that was installed for them.",
    )
    python_help = (
        "Python on the hosts, a path or a name. Default: a version like this one. May be HOST=PYTHON."
    )
    add("--python", action="append", default=[], metavar="PYTHON", help=python_help)
    setup_help = (
        "Shell lines (bash, as after a login) to run before anything else, such as 'module load python'. "
        "May be HOST=LINES."
    )
    add("--setup", action="append", default=[], metavar="LINES", help=setup_help)
    package_help = (
        "Also install this package, such as scipy or 'matplotlib>=3.8'; may be given several times."
    )
    add("--with", action="append", default=[], dest="packages", metavar="PACKAGE", help=package_help)
    wheels_help = (
        "Copy this folder of wheels and install packages from it, for machines without internet access."
    )
    add("--wheels", type=Path, metavar="DIR", help=wheels_help)
    add(
        "--ssh",
        default="ssh",
        metavar="COMMAND",
        help="ssh command, such as 'ssh -F FILE'. Default: %(default)s.",
    )
    add("--force", action="store_true", help="Restart or stop servers even while networks use them.")
    timeout_help = "Time limit for an installation. Default: %(default)g."
    add("--timeout", type=float, default=_INSTALL_SECONDS, metavar="SECONDS", help=timeout_help)
    group = parser.add_argument_group(
        "options of the servers",
        "the same as for pserver start; --auth-file is on this machine, all other paths are on the hosts",
    )
    add_options(group)


def run_deploy(options: argparse.Namespace, say: Callable[[str], None]) -> list[str]:
    """Deploy as the options say, and report progress line by line; return the errors.

    Raises `ConfigurationError` or `CredentialError` if the command cannot begin.
    """
    config = config_of(options)
    targets = parse_targets(options.hosts, options.python, options.setup)
    ssh = Ssh(shlex.split(options.ssh))
    deployment = Deployment(ssh, targets, lambda host, text: say(f"{host}: {text}"), options.timeout)
    if options.remove:
        outcome = deployment.remove(config.name, force=options.force)
        remove_hosts(config_file(), outcome.removed)
    else:
        if config.cmd_port == 0 or config.data_port == 0:
            raise ConfigurationError("port 0 would select a different port at each start: give fixed ports")
        plan = make_plan(config, options.packages, options.wheels, force=options.force)
        outcome = deployment.deploy(plan)
        _tell(outcome, say, use_tls=config.use_tls)
    return [f"{host}: {reason}" for host, reasons in outcome.errors.items() for reason in reasons]


def _tell(outcome: Outcome, say: Callable[[str], None], *, use_tls: bool) -> None:
    """Show how to connect to the hosts that are ready; if all are, add them to the hosts of `pconnect`."""
    names = [each.name for each in outcome.deployed]
    if not names:
        return
    shown = ", ".join(f'"{name}"' for name in names)
    if outcome.errors or not use_tls:
        say(f"Connect with: pconnect([{shown}]{'' if use_tls else ', use_tls=False'})")
        return
    say("All of them can be reached, from here and from each other.")
    path = config_file()
    if add_hosts(path, names):
        say(f"Connect with: pconnect(), because {path} names them; or pconnect([{shown}])")
    else:
        say(f"Connect with: pconnect([{shown}]); or with pconnect() after adding this line to {path}:")
        say(hosts_line(names))
