"""Servers run by root in a pool: the member has no Unix account on either side of a login."""

from pathlib import Path

import psutil
import pytest

from pconnect import AuthenticationError, ServerRefusedError, pconnect
from srp_tools.credentials import load_member
from srp_tools.generate import generate_srp_data
from tests.support.accounts import needs_root
from tests.support.own_accounts import accounts_server, passable_folder, password_of
from tests.support.pools import announce
from tests.support.servers import Server
from tests.support.waiting import wait_until

pytestmark = [needs_root, pytest.mark.slow]


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o711)
    generate_srp_data(member=True, folder=folder, bits=2048)
    return folder


def _uids_of_members(server: Server) -> set[int]:
    """Return the user IDs of the processes that log members in."""
    daemon = psutil.Process(server.status["pid"])
    found = set()
    for process in daemon.children(recursive=True):
        try:
            if "member+" in " ".join(process.cmdline()):
                found.add(process.uids().real)
        except psutil.Error:
            continue
    return found


def test_servers_of_root_find_each_other_and_members_have_no_session() -> None:
    with passable_folder() as folder:
        first, second = _made(folder / "first"), folder / "second"
        second.mkdir(mode=0o711)
        with accounts_server(first) as alpha:
            # The same users: the second server has a copy of the first one's files.
            (second / "server").mkdir(mode=0o700)
            for path in (first / "server").iterdir():
                copy = second / "server" / path.name
                copy.write_bytes(path.read_bytes())
                copy.chmod(0o600)
            with accounts_server(second, f"--join={alpha.host}", "--announce-interval=1", names=()) as beta:
                wait_until(lambda: alpha.ask("members")["members"] != [], "beta to announce itself")
                with pconnect(
                    alpha.host,
                    join=True,
                    user="alice",
                    password=password_of("alice"),
                    profile="",
                    local_links=False,
                ) as net:
                    assert [node.host for node in net[1:]] == [alpha.host, beta.host]
                    assert len(set(net.eval("__import__('os').getuid()").result() or [])) == 1
                wait_until(lambda: beta.ask("members")["members"][0]["heard"] is not None, "an answer")
            member = load_member(alpha.member_path)
            with pytest.raises((AuthenticationError, ServerRefusedError)):
                pconnect(
                    alpha.host, user=member.user, password=member.password, profile="", local_links=False
                )
            assert "can only announce itself" in announce(alpha, do="stop")["error"]
            assert _uids_of_members(alpha) <= {65534}
