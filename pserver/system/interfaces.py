"""The addresses where other nodes can reach a server on this machine, and the processes that listen on its ports."""

import ipaddress
import os
import pwd
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

_LISTENING = "0A"  # TCP_LISTEN in net/tcp_states.h


def own_addresses(bind: Sequence[str]) -> list[str]:
    """Return the numeric addresses where a server bound to `bind` can be reached, without loopback addresses.

    `bind`: the addresses that it listens on; empty for all addresses of this machine. IPv4 addresses come first.
    """
    if bind:
        entries_of = [socket.getaddrinfo(address, None, type=socket.SOCK_STREAM) for address in bind]
        found = [str(entry[4][0]) for entries in entries_of for entry in entries]
    else:
        entries = [entry for each in psutil.net_if_addrs().values() for entry in each]
        found = [
            entry.address
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in entries
            if entry.family == family
        ]
    return [text for text in dict.fromkeys(found) if _is_useful(text)]


class Listener(NamedTuple):
    """A process that listens on a port, as far as this account can see it."""

    pid: int | None
    program: str  #: empty if invisible to this account
    account: str  #: empty for this account

    def __str__(self) -> str:
        """Describe the process, for people."""
        if self.pid is None:
            return f"a process of {self.account or 'this account'}"
        process = f"{self.program} (pid {self.pid})" if self.program else f"the process {self.pid}"
        return f"{process} of {self.account}" if self.account else process


def listener_at(port: int) -> Listener | None:
    """Return the process that listens on a TCP port of this machine; ``None`` if there is none."""
    listening = [
        each.pid
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr.port == port
    ]
    if not listening:
        return None
    pid = next(filter(None, listening), None)
    try:
        program = psutil.Process(pid).name() if pid else ""
    except psutil.Error:  # it has just exited
        program = ""
    return Listener(pid, program, _account_at(port))


def _account_at(port: int) -> str:
    """Return the account that listens on a port, which is public; empty if it is this account or unknown."""
    for path in (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")):
        lines = path.read_text().splitlines()[1:] if path.exists() else []
        for fields in map(str.split, lines):  # format: proc_net_tcp(5)
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                user_id = int(fields[7])
                return "" if user_id == os.geteuid() else _account(user_id)
    return ""


def _account(user_id: int) -> str:
    try:
        return f"the account {pwd.getpwuid(user_id).pw_name}"
    except KeyError:
        return f"the account with the user id {user_id}"


def _is_useful(text: str) -> bool:
    # A link-local address includes the name of an interface, which differs between machines.
    address = ipaddress.ip_address(text.partition("%")[0])
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)
