"""Judge each fact: fine, worth a note, or wrong, with a remedy. Pure functions of the facts."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from pconnect.link.host_names import parse_hosts
from srp_tools.certificates import CLOCK_SKEW

LEAST_DESCRIPTORS = 64  # with fewer, a server refuses to start
GOOD_DESCRIPTORS = 1024  # enough for about 50 engines; the usual limit of a login shell
_GOOD_PROCESSES = 256
_MIB = 2**20
_LEAST_MEMORY = 256 * _MIB  # about ten engines that have loaded little besides numpy
_CLOCK_NOTE_SECONDS = (
    2.0  # with a smaller difference, times of files and logs from several machines stay comparable
)


class Level(Enum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"  #: may be intended
    WRONG = "WRONG"


class Finding(NamedTuple):
    """A fact, and a remedy if it is wrong."""

    level: Level
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        first = f"{self.level.value:<6}{self.text}"
        return f"{first}\n      -> {self.remedy}" if self.remedy else first


def ok(text: str) -> Finding:
    """Return a finding that reports no problem."""
    return Finding(Level.OK, text)


def check_package(name: str, version: str | None) -> Finding:
    """Judge a required package; `version` is ``None`` if it is missing."""
    if version is None:
        return Finding(
            Level.WRONG, f"{name} is not installed", f"install it with: python -m pip install {name}"
        )
    return ok(f"{name} {version}")


def check_tls(version: str, *, has_tls13: bool) -> Finding:
    """Judge the TLS library of Python's ``ssl`` module."""
    if has_tls13:
        return ok(version)
    remedy = "use a Python that is built with OpenSSL 1.1.1 or newer"
    return Finding(Level.WRONG, f"{version} does not support TLS 1.3, which every connection needs", remedy)


def check_port(what: str, port: int, holder: object, server: str | None) -> Finding:
    """Judge a port.

    `what`: its purpose. `holder`: the program that listens there, ``None`` if the port is free. `server`: the name of
    the pserver server that listens there.
    """
    place = f"{what} {port}"
    if server is not None:
        return ok(f"{place}: in use by the server {server!r}")
    if holder is None:
        return ok(f"{place}: free")
    remedy = "stop that program, or start the server on free ports: pserver start --cmd-port 0 --data-port 0"
    return Finding(Level.WRONG, f"{place}: used by {holder}", remedy)


def check_space(what: str, free: int | None, least: int, remedy: str) -> Finding:
    """Judge free space in memory or on a disk, in bytes; `free` is ``None`` if nothing can be written there."""
    if free is None:
        return Finding(Level.WRONG, f"{what}: cannot be written", remedy)
    if free < least:
        return Finding(Level.WRONG, f"{what}: {_size(free)} free, but {_size(least)} needed", remedy)
    return ok(f"{what}: {_size(free)} free")


def check_memory(free: int) -> Finding:
    """Judge the memory that is still available to programs."""
    return check_space(
        "memory", free, _LEAST_MEMORY, "stop other programs, or use a machine with more memory"
    )


def check_descriptors(hard: int | None) -> Finding:
    """Judge the limit of open files; ``None`` means no limit."""
    text = f"open files (ulimit -Hn): {_limit(hard)}"
    remedy = "raise it: ulimit -Hn 65536, limits.conf(5), or LimitNOFILE= of a systemd unit"
    if hard is not None and hard < LEAST_DESCRIPTORS:
        return Finding(Level.WRONG, f"{text}; a server needs at least {LEAST_DESCRIPTORS}", remedy)
    if hard is not None and hard < GOOD_DESCRIPTORS:
        return Finding(Level.NOTE, f"{text}; each engine needs about twenty", remedy)
    return ok(text)


def check_processes(hard: int | None) -> Finding:
    """Judge the limit of processes of this account; ``None`` means no limit."""
    text = f"processes (ulimit -Hu): {_limit(hard)}"
    if hard is not None and hard < _GOOD_PROCESSES:
        remedy = "raise it: ulimit -Hu 4096, limits.conf(5), or TasksMax= of a systemd unit"
        return Finding(
            Level.NOTE, f"{text}; each engine and each worker is a process, and numpy adds threads", remedy
        )
    return ok(text)


def check_clock(host: str, ahead: float) -> Finding:
    """Judge the clock of a host; `ahead`: the number of seconds by which it is ahead of this machine's clock."""
    text = f"{host}: its clock is {abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} this machine's"
    remedy = "set both clocks, or run a time service such as chrony or systemd-timesyncd on both"
    if abs(ahead) > CLOCK_SKEW.total_seconds() / 2:
        return Finding(
            Level.WRONG, f"{text}; certificates become invalid at {CLOCK_SKEW.days * 24} h", remedy
        )
    if abs(ahead) > _CLOCK_NOTE_SECONDS:
        return Finding(Level.NOTE, text, remedy)
    return ok(text)


def check_host_versions(host: str, ours: Sequence[str], theirs: Sequence[str]) -> Finding:
    """Judge the versions of Python and pserver on a host; `ours`: the versions on this machine."""
    if list(ours) == list(theirs):
        return ok(f"{host}: Python {theirs[0]} and pserver {theirs[1]}, the same as here")
    machine = parse_hosts([host])[0].name  # without the command port, which means nothing to ssh
    text = f"{host}: Python {theirs[0]} and pserver {theirs[1]}; this machine has {ours[0]} and {ours[1]}"
    if theirs[1] != ours[1]:
        return Finding(
            Level.WRONG, text, f"install the same version there, for example with: pserver deploy {machine}"
        )
    if theirs[0].split(".")[:2] != ours[0].split(".")[:2]:
        remedy = f"use the same minor version: pserver deploy {machine} --python PATH"
        return Finding(Level.NOTE, f"{text}; functions transfer best between equal minor versions", remedy)
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
