"""The command ``pserver doctor``."""

import argparse
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from pserver.admin.settings import resolve
from pserver.doctor.checks import Finding, Level
from pserver.doctor.files import check_files
from pserver.doctor.hosts import check_hosts
from pserver.doctor.machine import check_machine
from pserver.doctor.service import check_service
from srp_tools.errors import ParallelError


def check_all() -> Iterator[Finding]:
    """Return all findings for this machine."""
    return itertools.chain(check_machine(), check_service(), check_files(auth_file=_auth_file()))


def _auth_file() -> Path | None:
    """Return the users' file that the settings name, if any."""
    try:
        path = resolve({}, os.environ).config.auth_file
    except (ParallelError, OSError):  # `check_service` reports this
        return None
    return Path(path) if path else None


def run_doctor(options: argparse.Namespace) -> int:
    """Print the findings for this machine and the hosts of `options`; return 1 if something is wrong, else 0."""
    wrong = 0
    for finding in itertools.chain(check_all(), check_hosts(options.hosts)):
        print(finding, flush=True)
        wrong += finding.level is Level.WRONG
    return 1 if wrong else 0
