"""Findings about other hosts: login, clock and versions."""

import platform
import time
from collections.abc import Iterator, Sequence

from pconnect.connect import pconnect
from pserver.doctor.checks import Finding, Level, check_clock, check_host_versions, ok
from srp_tools.errors import ParallelError
from srp_tools.packages import distribution_version

_LOGIN_SECONDS = 15.0
_ASK = """
import time, platform
from srp_tools.packages import distribution_version
(time.time(), platform.python_version(), distribution_version())
"""


def check_hosts(hosts: Sequence[str]) -> Iterator[Finding]:
    """Return the findings for each host, which need a login there, then whether all hosts can reach each other."""
    good = []
    for host in hosts:
        try:
            findings = _check_host(host)
        except (ParallelError, OSError) as error:
            yield Finding(Level.WRONG, f"{host}: login failed", str(error))
        else:
            good.append(host)
            yield from findings
    if len(good) > 1:
        try:
            with pconnect(good, required=True, timeout=_LOGIN_SECONDS, check_versions=False):
                yield ok(f"{', '.join(good)}: connected to each other")
        except (ParallelError, OSError) as error:
            yield Finding(Level.WRONG, f"{', '.join(good)}: not connected to each other", str(error))


def _check_host(host: str) -> list[Finding]:
    with pconnect([host], required=True, timeout=_LOGIN_SECONDS, check_versions=False) as net:
        net.eval("0").result(
            timeout=_LOGIN_SECONDS
        )  # load everything first, so that it does not distort the timing
        began = time.time()
        there, python, version = net[1].eval(_ASK).result(timeout=_LOGIN_SECONDS)
        # The host read its clock about halfway between the two times.
        ahead = there - (began + time.time()) / 2
    ours = [platform.python_version(), distribution_version()]
    return [
        ok(f"{host}: login works"),
        check_clock(host, ahead),
        check_host_versions(host, ours, [python, version]),
    ]
