"""The process that announces a server; the test forks it, because root cannot switch back."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pserver.pool.announcer import Order, announce
from pserver.pool.member import ANSWER_BYTES
from srp_tools.credentials import Credentials, save_credentials
from srp_tools.generate import generate_srp_data
from tests.support.servers import make_users, run_server
from tests.support.waiting import DEADLINE

WORDS = {
    "do": "announce",
    "id": "11" * 16,
    "name": "beta",
    "slots": 2,
    "cmd_port": 12502,
    "interval": 30,
    "at": 1.0,
}


def announced(hosts: list[str], file: Path, **more: object) -> dict[str, dict[str, Any]]:
    """Return the outcome, by host."""
    order: dict[str, Any] = {
        "hosts": hosts, "member_file": str(file), "words": WORDS | more, "bind": ["192.0.2.7"], "cmd_port": 12502,
        "secret": "55" * 32,
    }  # fmt: skip
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if not pid:
        try:
            ours.close()
            announce(theirs, Order.from_json(order))
        finally:
            os._exit(0)
    theirs.close()
    ours.settimeout(DEADLINE)
    told = []
    with ours:
        while data := ours.recv(ANSWER_BYTES):
            told.append(json.loads(data))
    os.waitpid(pid, 0)
    return {each["host"]: each for each in told}


def test_it_says_at_each_host_what_it_is_told_to_say(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    file = generate_srp_data(member=True, folder=tmp_path / "users", bits=2048).client
    assert file is not None
    with (
        run_server(tmp_path / "alpha", users=users) as alpha,
        socket.create_server(("127.0.0.1", 0)) as unused,
    ):
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        unused.close()
        told = announced([alpha.host, dead], file)
        assert told[alpha.host]["ok"]["name"] == alpha.status["name"]
        assert "refused" in told[dead]["error"]
        [member] = alpha.ask("members")["members"]
        assert member["addresses"] == ["127.0.0.1", "192.0.2.7"] and member["name"] == "beta"
        # A member may not do anything else.
        assert "can only announce itself" in announced([alpha.host], file, do="stop")[alpha.host]["error"]
        assert "makes no sense" not in announced([alpha.host], file, name="\0")[alpha.host]["error"]
        # An announcement with too many addresses is refused, and the server runs on.
        many = ["10.0.0.1"] * 5000
        assert "error" in announced([alpha.host], file, addresses=many)[alpha.host]
        assert alpha.ask("members")["members"][0]["addresses"] == ["127.0.0.1", "192.0.2.7"]
        assert announced([alpha.host], file, do="leave")[alpha.host]["ok"] == {}
        assert alpha.ask("members")["members"] == []
        # Only members may announce a server, even if other users may log in.
        save_credentials(users[0], tmp_path / "alice")
        assert "not a member" in announced([alpha.host], tmp_path / "alice")[alpha.host]["error"]
        save_credentials(Credentials("member+pool", "a wrong password"), tmp_path / "wrong")
        assert "not accepted" in announced([alpha.host], tmp_path / "wrong")[alpha.host]["error"]


@pytest.mark.parametrize("content", [None, "rubbish", "alice:correct horse\n"])
def test_without_a_members_file_it_says_so_for_each_host(tmp_path: Path, content: str | None) -> None:
    tmp_path.chmod(0o700)
    file = tmp_path / "member"
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
    told = announced(["alpha", "beta"], file)
    assert all(str(file) in told[host]["error"] for host in ("alpha", "beta"))
