"""The options of ``pserver deploy``, and what it prints."""

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

_INSTALL_SECONDS = 900.0  # of packages from the internet, on a slow disk

DESCRIPTION = """\
Install this version on other machines over ssh, copy the servers' part of the login there, start a server on each, and
check that all of them can be reached from here and from each other. What is there already is not done again.
"""


def add_deploy_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes: its own options, and those of a server."""
    add = parser.add_argument
    add(
        "hosts",
        nargs="+",
        metavar="HOST",
        help="as you give it to ssh, which must work there without a question",
    )
    add("--remove", action="store_true", help="Stop the servers, and remove what was made for them.")
    python_help = (
        "The Python there, a path or a name. Default: one like that of this machine. May be HOST=PYTHON."
    )
    add("--python", action="append", default=[], metavar="PYTHON", help=python_help)
    setup_help = (
        "Lines for the shell (bash, as after a login) before anything else, such as 'module load python'. "
        "May be HOST=LINES."
    )
    add("--setup", action="append", default=[], metavar="LINES", help=setup_help)
    package_help = "Install this there, too, such as scipy or 'matplotlib>=3.8'; may be given several times."
    add("--with", action="append", default=[], dest="packages", metavar="PACKAGE", help=package_help)
    wheels_help = (
        "Take the packages from this folder of wheels, which is copied, for machines without internet."
    )
    add("--wheels", type=Path, metavar="DIR", help=wheels_help)
    add("--ssh", default="ssh", metavar="COMMAND", help="Such as 'ssh -F FILE'. Default: %(default)s.")
    add("--force", action="store_true", help="Restart or stop a server even while networks use it.")
    timeout_help = "How long an installation may take. Default: %(default)g."
    add("--timeout", type=float, default=_INSTALL_SECONDS, metavar="SECONDS", help=timeout_help)
    group = parser.add_argument_group(
        "options of the servers", "as of pserver start; --auth-file is a file here, all other paths are there"
    )
    add_options(group)


def run_deploy(options: argparse.Namespace, say: Callable[[str], None]) -> list[str]:
    """Do what the options say, and tell it line by line; return the errors.

    Raises `ConfigurationError` or `CredentialError` if nothing can be done at all.
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
            raise ConfigurationError("port 0 would be another one after each start: give numbers")
        plan = make_plan(config, options.packages, options.wheels, force=options.force)
        outcome = deployment.deploy(plan)
        _tell(outcome, say, use_tls=config.use_tls)
    return [f"{host}: {reason}" for host, reasons in outcome.errors.items() for reason in reasons]


def _tell(outcome: Outcome, say: Callable[[str], None], *, use_tls: bool) -> None:
    """Say how to connect to the hosts that are ready, and let `pconnect` without hosts find them if all are."""
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
        say(f"Connect with: pconnect([{shown}]); or with pconnect() after you put into {path}:")
        say(hosts_line(names))
