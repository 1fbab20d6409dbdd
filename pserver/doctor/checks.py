"""What a fact means: fine, worth a note, or wrong, and then what to do. Pure functions of facts."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from pconnect.link.host_names import parse_hosts
from srp_tools.certificates import CLOCK_SKEW

LEAST_DESCRIPTORS = 64  # below it a server refuses to start
GOOD_DESCRIPTORS = 1024  # some 50 engines; the usual limit of a login
_GOOD_PROCESSES = 256
_MIB = 2**20
_LEAST_MEMORY = 256 * _MIB  # some ten engines that have loaded numpy and little else
_CLOCK_NOTE_SECONDS = 2.0  # times of files and logs from several machines can still be compared


class Level(Enum):
    """How much a fact matters."""

    OK = "ok"
    NOTE = "note"  #: it may be meant so
    WRONG = "WRONG"


class Finding(NamedTuple):
    """A fact, and what to do if it is wrong."""

    level: Level
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        first = f"{self.level.value:<6}{self.text}"
        return f"{first}\n      -> {self.remedy}" if self.remedy else first


def ok(text: str) -> Finding:
    """Return a finding without a fault."""
    return Finding(Level.OK, text)


def check_package(name: str, version: str | None) -> Finding:
    """Judge a package that is needed; `version` is ``None`` if it is missing."""
    if version is None:
        return Finding(
            Level.WRONG, f"{name} is not installed", f"install it with: python -m pip install {name}"
        )
    return ok(f"{name} {version}")


def check_tls(version: str, *, has_tls13: bool) -> Finding:
    """Judge the library behind Python's ``ssl``."""
    if has_tls13:
        return ok(version)
    remedy = "use a Python that is built with OpenSSL 1.1.1 or newer"
    return Finding(Level.WRONG, f"{version} has no TLS 1.3, which every connection needs", remedy)


def check_port(what: str, port: int, holder: object, server: str | None) -> Finding:
    """Judge a port.

    `what`: what it is for. `holder`: who listens there, ``None`` if the port is free. `server`: the name of our server
    that listens there.
    """
    place = f"{what} {port}"
    if server is not None:
        return ok(f"{place}: the server {server!r} listens")
    if holder is None:
        return ok(f"{place}: free")
    remedy = "end that program, or start the server with free ports: pserver start --cmd-port 0 --data-port 0"
    return Finding(Level.WRONG, f"{place}: used by {holder}", remedy)


def check_space(what: str, free: int | None, least: int, remedy: str) -> Finding:
    """Judge room in memory or on a disk, in bytes; `free` is ``None`` if the place cannot be used at all."""
    if free is None:
        return Finding(Level.WRONG, f"{what}: cannot be written", remedy)
    if free < least:
        return Finding(Level.WRONG, f"{what}: {_size(free)} free, {_size(least)} are needed", remedy)
    return ok(f"{what}: {_size(free)} free")


def check_memory(free: int) -> Finding:
    """Judge the memory that programs can still get."""
    return check_space("memory", free, _LEAST_MEMORY, "end other programs, or use a machine with more memory")


def check_descriptors(hard: int | None) -> Finding:
    """Judge the limit of open files; ``None``: there is no limit."""
    text = f"open files (ulimit -Hn): {_limit(hard)}"
    remedy = "raise it: ulimit -Hn 65536, limits.conf(5), or LimitNOFILE= of a systemd unit"
    if hard is not None and hard < LEAST_DESCRIPTORS:
        return Finding(Level.WRONG, f"{text}; a server needs {LEAST_DESCRIPTORS}", remedy)
    if hard is not None and hard < GOOD_DESCRIPTORS:
        return Finding(Level.NOTE, f"{text}; each engine needs some twenty", remedy)
    return ok(text)


def check_processes(hard: int | None) -> Finding:
    """Judge the limit of processes of this account; ``None``: there is no limit."""
    text = f"processes (ulimit -Hu): {_limit(hard)}"
    if hard is not None and hard < _GOOD_PROCESSES:
        remedy = "raise it: ulimit -Hu 4096, limits.conf(5), or TasksMax= of a systemd unit"
        return Finding(
            Level.NOTE, f"{text}; each engine and each worker is one, and numpy adds threads", remedy
        )
    return ok(text)


def check_clock(host: str, ahead: float) -> Finding:
    """Judge the clock of a host; `ahead`: by how many seconds it is ahead of ours."""
    text = f"{host}: its clock is {abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} this machine's"
    remedy = "set both clocks, or run a time service such as chrony or systemd-timesyncd on both"
    if abs(ahead) > CLOCK_SKEW.total_seconds() / 2:
        return Finding(Level.WRONG, f"{text}; certificates fail at {CLOCK_SKEW.days * 24} h", remedy)
    if abs(ahead) > _CLOCK_NOTE_SECONDS:
        return Finding(Level.NOTE, text, remedy)
    return ok(text)


def check_host_versions(host: str, ours: Sequence[str], theirs: Sequence[str]) -> Finding:
    """Judge the versions of a host: of Python and this package, ours and theirs."""
    if list(ours) == list(theirs):
        return ok(f"{host}: Python {theirs[0]} and pserver {theirs[1]}, as here")
    machine = parse_hosts([host])[0].name  # ssh takes no port of ours
    text = f"{host}: Python {theirs[0]} and pserver {theirs[1]}; here they are {ours[0]} and {ours[1]}"
    if theirs[1] != ours[1]:
        return Finding(
            Level.WRONG, text, f"install the same version there, such as with: pserver deploy {machine}"
        )
    if theirs[0].split(".")[:2] != ours[0].split(".")[:2]:
        remedy = f"use the same minor version: pserver deploy {machine} --python PATH"
        return Finding(Level.NOTE, f"{text}; functions are sent best between the same minor versions", remedy)
    return ok(text)


def _limit(number: int | None) -> str:
    return "unlimited" if number is None else str(number)


def _size(number: int) -> str:
    """Return bytes for people.

    Examples
    --------
    >>> _size(3 * 2**30), _size(200 * 2**20)
    ('3.0 GiB', '200 MiB')
    """
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / _MIB:.0f} MiB"
