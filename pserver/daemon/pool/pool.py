"""The daemon's view of the pool: the neighbours of this server, for members, clients and administrators.

A member logs in for each announcement, as an administrator does, and can only announce itself or leave. Clients ask for
the members in their sessions. The list may be long, so sessions get it as a sealed file in memory.
"""

import contextlib
import fcntl
import ipaddress
import json
import logging
import math
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from pserver.config.advertised import places_of
from pserver.config.pool_options import MOST_HOSTS, check_joined
from pserver.config.server_config import ServerConfig
from pserver.daemon.callback_selector import LoopPart
from pserver.daemon.door.arrivals import Source
from pserver.daemon.pool.announcing import Announcing, Request
from pserver.pool.member import MOST_ADDRESSES, host_text
from pserver.pool.member_file import MemberFile
from pserver.pool.member_list import Whence
from pserver.system.interfaces import own_addresses
from srp_tools.credentials import load_member
from srp_tools.errors import ConfigurationError, ParallelError
from srp_tools.printable import printable_name

log = logging.getLogger("pserver")

_LOOK_SECONDS = 5.0  # between two checks for missed members, which also write the file

_OLD_SECONDS = 0.1  # for which clients get the same list
_REST = 10  # and for at least this many times the time that it took to make the list

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

Facts = Mapping[str, object]


class Pool:
    """The members that this server knows, and its announcements.

    `file`: stores the members. `own`: returns the command port and the number of slots of this server. `removal`:
    returns why a user has lost access, empty if the user still has it. `selector`: the daemon's; each entry's data is a
    function to call. `request`: sends a request to the starter.
    """

    def __init__(
        self,
        file: MemberFile,
        config: Callable[[], ServerConfig],
        selector: selectors.BaseSelector,
        request: Request,
        *,
        own: Callable[[], tuple[int, int]],
        removal: Callable[[str], str],
    ) -> None:
        self._file = file
        self._members = members = file.members
        self._config = config
        self._own = own
        self._removal = removal
        self._announcing = Announcing(
            selector, members, request, self._order, lambda: config().announce_interval
        )
        self._listed = -1  # the list for clients, as a file in memory
        self._listed_until = -math.inf  # when the list expires
        self._given: tuple[str, ...] = ()  # the hosts in the settings at the last check
        #: The commands of administrators, by name.
        self.words: Mapping[str, Callable[[Mapping[str, Any]], Facts]] = {
            "join": self._join,
            "leave": self._leave,
            "forget": self._forget,
            "members": lambda _: {"members": members.all_facts(time.monotonic())},
        }

    def loop_parts(self) -> list[LoopPart]:
        """Return the parts for the daemon's loop."""
        return [
            LoopPart("members", self._look),
            LoopPart("announcements", self._announcing.step, self._announcing.time_left),
        ]

    def _look(self) -> float:
        """Apply new settings, find missed members, and save changes; return the seconds until the next check."""
        given = tuple(self._config().join)
        if given != self._given:
            for host in self._given:
                if host not in given:
                    self._members.part(host)
                    self._announcing.leave([host])
            for host in given:
                self._members.join(host, given=True)
            self._given = given
        for member in self._members.keep_users(lambda user: not self._removal(user)):
            log.warning("forgot the member %s: its user was removed", printable_name(member.name))
        for entry in self._members.step(time.monotonic()):
            log.warning(
                "the member %s at %s is gone", printable_name(entry.member.name), entry.member.addresses[0]
            )
        self._file.write_if_changed()
        return _LOOK_SECONDS

    def close(self) -> None:
        """Tell other servers that this server stops, and save changes."""
        self._announcing.close()
        self._announcing.leave([joined.host for joined in self._members.joined.values() if joined.member])
        self._file.write_if_changed()
        if self._listed >= 0:
            os.close(self._listed)
            self._listed = -1

    # --- this server's own announcement ---

    def _order(self) -> Facts:
        """Return the order for the process that announces this server, see `pserver.pool.announcer.Order`."""
        config, (cmd_port, slots) = self._config(), self._own()
        words: dict[str, object] = {
            "id": self._members.own,
            "name": config.name,
            "slots": slots,
            "cmd_port": cmd_port,
        }
        if config.advertise:
            words |= {"addresses": self._addresses(), "advertised": True}
        return {
            "member_file": str(config.member_path()),
            "words": words,
            "secret": self._file.key.announcing_secret(),
            "bind": list(config.addresses()),
            "cmd_port": cmd_port,
        }

    def _addresses(self) -> list[str]:
        """Return the addresses of this server, as far as they are known without looking up names."""
        config, cmd_port = self._config(), self._own()[0]
        if config.advertise:
            # Without the data port, which the server sends in each login.
            return [host_text(*place[:2]) for place in places_of(config.advertise, cmd_port, 1)]
        bind = config.addresses()
        if not all(map(_is_numeric, bind)):
            return []
        return [host_text(each, cmd_port) for each in own_addresses(bind)][:MOST_ADDRESSES]

    # --- members ---

    def answer_member(self, request: Mapping[str, Any], user: str, peer: str) -> Facts:
        """Handle a request of a member that has logged in as `user` from `peer`; return the answer."""
        try:
            match request.get("do"):
                case "announce":
                    return {"ok": self._hear(request, user, _address_of(peer))}
                case "leave":
                    member = self._members.leave(request, time.monotonic())
                    if member is not None:
                        log.info(
                            "the member %s at %s has left", printable_name(member.name), member.addresses[0]
                        )
                    return {"ok": {}}
                case _:
                    raise ConfigurationError("a member can only announce itself and leave")
        except ParallelError as error:
            log.warning("refused an announcement from %s: %s", peer, error)
            return {"error": str(error)}

    def _hear(self, request: Mapping[str, Any], user: str, source: str) -> Facts:
        port = request.get("cmd_port")
        if type(port) is not int or not 0 < port < 2**16:  # True is an int
            raise ConfigurationError("an announcement must have the command port of the server")
        # A link-local address has a different zone name on each machine.
        is_useful = not ipaddress.ip_address(source.partition("%")[0]).is_link_local
        seen_at = host_text(source, port) if is_useful else ""
        whence = Whence(user, source, seen_at)
        entry, is_news = self._members.announce(request, whence, time.monotonic())
        if is_news:
            log.info(
                "the member %s at %s has joined", printable_name(entry.member.name), entry.member.addresses[0]
            )
        return {
            "id": self._members.own,
            "name": self._config().name,
            "addresses": self._addresses(),
            "slots": self._own()[1],
            "again": entry.interval,
            "members": len(self._members.announced),
        }

    # --- clients ---

    def hand_out(self, end: socket.socket) -> None:
        """Send a session the list of members for its client, and close the socket."""
        with end:
            if time.monotonic() >= self._listed_until:
                self._list_anew()
            end.setblocking(False)
            with contextlib.suppress(OSError):  # the session has ended
                socket.send_fds(end, [b"members"], [self._listed])

    def _list_anew(self) -> None:
        """Make the list for clients. It may be long, and clients may ask often, so it is made at limited intervals."""
        began = time.monotonic()
        told = {"id": self._members.own, "members": list(self._members.facts(began))}
        file = os.memfd_create("pserver-members", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(file, json.dumps(told).encode())  # a file in memory takes all bytes in one call
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
        if self._listed >= 0:
            os.close(self._listed)
        self._listed, ended = file, time.monotonic()
        self._listed_until = ended + max(_OLD_SECONDS, _REST * (ended - began))

    # --- administrators ---

    def facts(self) -> list[dict[str, object]]:
        """Return the members for the status."""
        return list(self._members.facts(time.monotonic()))

    def _forget(self, request: Mapping[str, Any]) -> Facts:
        what = request.get("what")
        forgotten = self._members.forget(what) if isinstance(what, str) else []
        if not forgotten:
            raise ConfigurationError(
                f"forget: no member has announced itself with the id or from the address {what!r:.100}; "
                "pserver ctl members --json shows both"
            )
        return {
            "forgotten": [{"name": member.name, "addresses": list(member.addresses)} for member in forgotten]
        }

    def _join(self, request: Mapping[str, Any]) -> Facts:
        host, config = _host_of(request), self._config()
        if not config.use_tls:
            raise ConfigurationError(
                "join: this server has no login (--no-tls), so it cannot announce itself"
            )
        if len(self._members.joined) >= MOST_HOSTS and host not in self._members.joined:
            raise ConfigurationError(f"join: at most {MOST_HOSTS} servers; leave one first")
        load_member(config.member_path())
        self._members.join(host, given=host in self._given)
        self._announcing.announce_now(host)
        return {"host": host}

    def _leave(self, request: Mapping[str, Any]) -> Facts:
        host = _host_of(request)
        if not self._members.part(host):
            known = ", ".join(self._members.joined) or "none"
            raise ConfigurationError(
                f"leave: this server does not announce itself to {host!r:.100}, only to: {known}"
            )
        self._announcing.leave([host])
        return {"host": host}


def _host_of(request: Mapping[str, Any]) -> str:
    host = request.get("host")
    if not isinstance(host, str):
        raise ConfigurationError(f"{request.get('do')}: give HOST, or HOST:PORT")
    check_joined(host)
    return host


def _address_of(peer: str) -> str:
    try:
        address = Source.read(peer).address
    except ValueError:
        address = None
    if address is None:
        raise ConfigurationError("a server must announce itself over the network")
    return str(address)


def _is_numeric(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
