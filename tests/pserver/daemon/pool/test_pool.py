import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.callback_selector import CallbackSelector
from pserver.daemon.pool import pool
from pserver.daemon.pool.pool import Pool
from pserver.pool.member_file import MemberFile
from srp_tools.credentials import Credentials, save_credentials
from srp_tools.errors import ConfigurationError, CredentialError
from tests.support.waiting import DEADLINE

WORDS: dict[str, Any] = {
    "do": "announce", "id": "11" * 16, "name": "beta", "addresses": ["192.168.1.2"], "slots": 2,
    "cmd_port": 12600, "interval": 30, "at": 1.0, "secret": "5a" * 32,
}  # fmt: skip
PEER = "10.0.0.2 port 4711"


class Office:
    """A pool whose starter does nothing."""

    def __init__(self, selector: CallbackSelector, folder: Path) -> None:
        self.folder = folder
        self.config = ServerConfig(
            name="one", allow_root=True, member_file=folder / "member", bind="127.0.0.1"
        )
        self.asked: list[Any] = []
        self.file = MemberFile(folder / "kept", time.monotonic())
        self.pool = Pool(
            self.file,
            lambda: self.config,
            selector,
            lambda words, _: self.asked.append(words["announce"]),
            own=lambda: (12502, 4),
            removal=lambda user: self.removed.get(user, ""),
        )
        self.removed: dict[str, str] = {}

    def turn(self) -> None:
        for part in self.pool.loop_parts():
            part.step()

    def told(self) -> dict[str, Any]:
        """Return the list that a session gets."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            self.pool.hand_out(theirs)
            _, [file], *_ = socket.recv_fds(ours, 100, 1)
        with pytest.raises(OSError):
            os.write(file, b"x")
        told: dict[str, Any] = json.loads(os.pread(file, 10**6, 0))
        os.close(file)
        return told

    def tell(self, request: dict[str, Any], peer: str = PEER, user: str = "member+pool") -> Any:
        return self.pool.answer_member(request, user, peer)

    def do(self, word: str, **more: object) -> Any:
        return self.pool.words[word]({"do": word, **more})


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(pool, "_OLD_SECONDS", 0.0)
    monkeypatch.setattr(pool, "_REST", 0.0)
    tmp_path.chmod(0o700)
    save_credentials(Credentials("member+pool", "correct horse"), tmp_path / "member")
    with CallbackSelector() as selector:
        office = Office(selector, tmp_path)
        yield office
        office.pool.close()
        office.file.key.close()


def test_a_member_is_told_who_this_is_and_clients_are_told_of_it(office: Office) -> None:
    answer: Any = office.tell(WORDS)["ok"]
    assert answer["name"] == "one" and answer["slots"] == 4 and answer["again"] == 30
    told = office.told()
    assert told["id"] == answer["id"]
    [member] = told["members"]
    assert member["addresses"] == ["10.0.0.2:12600", "192.168.1.2"] and not member["gone"]
    assert office.pool.facts()[0]["name"] == "beta"


def test_clients_that_ask_all_the_time_are_told_the_same_for_a_moment(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_OLD_SECONDS", DEADLINE)
    office.tell(WORDS)
    first = office.told()
    office.tell(WORDS | {"name": "other", "secret": "77" * 32})
    assert office.told() == first, "an announcement does not make a new list"
    monkeypatch.setattr(pool, "_OLD_SECONDS", 0.0)
    office.pool._listed_until = 0.0
    assert len(office.told()["members"]) == 2


def test_what_was_advertised_comes_before_where_it_was_seen(office: Office) -> None:
    office.tell(WORDS | {"advertised": True})
    assert office.told()["members"][0]["addresses"] == ["192.168.1.2", "10.0.0.2:12600"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"do": "stop"},
        {"do": None},
        {"cmd_port": 0},
        {"cmd_port": "x"},
        {"cmd_port": True},
        {"name": ""},
        {"addresses": ["x"] * 10**6},
    ],
)
def test_a_member_can_do_nothing_else(
    office: Office, wrong: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    assert "error" in office.tell(WORDS | wrong)
    assert "error" in office.tell(WORDS, "this machine")
    assert office.told()["members"] == []
    assert len(caplog.messages) == 2


def test_an_address_of_a_link_only_is_no_address_for_others(office: Office) -> None:
    refused = office.tell(WORDS | {"addresses": []}, "fe80::1 port 5")
    assert "--advertise" in str(refused["error"])
    office.tell(WORDS, "fe80::1 port 5")
    assert [each["addresses"] for each in office.told()["members"]] == [["192.168.1.2"]]


def test_a_member_that_leaves_is_forgotten(office: Office) -> None:
    office.tell(WORDS)
    leave = {"do": "leave", "id": "11" * 16, "at": 2.0}
    office.tell(leave | {"secret": "66" * 32})
    assert "secret" in office.tell(leave)["error"]
    assert len(office.told()["members"]) == 1
    office.tell(leave | {"secret": WORDS["secret"]}, "10.0.0.3 port 5")
    assert office.told()["members"] == []


def test_an_administrator_sees_who_has_announced_a_member_and_can_forget_it(office: Office) -> None:
    office.tell(WORDS)
    [member] = office.do("members")["members"]
    assert (member["user"], member["from"]) == ("member+pool", "10.0.0.2")
    assert not {"user", "from", "secret"} & office.told()["members"][0].keys()
    for wrong in ("22" * 16, "", None, 5):
        with pytest.raises(ConfigurationError, match="forget: no member"):
            office.do("forget", what=wrong)
    for what in (member["id"], member["from"]):
        assert office.do("forget", what=what)["forgotten"][0]["name"] == "beta"
        assert office.told()["members"] == []
        office.tell(WORDS)


def test_a_member_goes_with_the_user_as_which_it_came(office: Office) -> None:
    office.tell(WORDS)
    office.tell(WORDS | {"id": "22" * 16}, user="member+other")
    office.turn()
    assert len(office.told()["members"]) == 2
    office.removed["member+pool"] = "this user was removed from the server"
    office.turn()
    assert [each["id"] for each in office.told()["members"]] == ["22" * 16]


def test_the_settings_say_where_to_announce_it_also_when_they_change(office: Office) -> None:
    office.config = ServerConfig(
        name="one",
        allow_root=True,
        member_file=office.folder / "member",
        join=["alpha", "gamma"],
        advertise="gate:22502",
    )
    office.turn()
    assert [member["name"] for member in office.told()["members"]] == ["alpha", "gamma"]
    [asked] = office.asked
    assert asked["hosts"] == ["alpha", "gamma"]
    assert asked["words"]["addresses"] == ["gate:22502"] and asked["words"]["advertised"] is True
    office.config = ServerConfig(name="one", allow_root=True, join=["gamma"])
    office.turn()
    assert [member["name"] for member in office.told()["members"]] == ["gamma"]
    assert office.asked[-1]["hosts"] == ["alpha"] and office.asked[-1]["words"]["do"] == "leave"


def test_an_administrator_joins_and_leaves_and_that_outlives_a_restart(office: Office) -> None:
    assert office.do("join", host="delta:12600") == {"host": "delta:12600"}
    office.turn()
    [path] = office.folder.rglob("members.json")
    assert json.loads(path.read_text())["joined"] == ["delta:12600"]
    assert office.do("members")["members"][0]["name"] == "delta:12600"
    office.do("leave", host="delta:12600")
    with pytest.raises(ConfigurationError, match="only to: none"):
        office.do("leave", host="delta:12600")


def test_what_cannot_be_joined_is_refused(office: Office) -> None:
    for host in (5, "", "a b", "alpha*2", "alpha:http"):
        with pytest.raises(ConfigurationError):
            office.do("join", host=host)
    (office.folder / "member").unlink()
    with pytest.raises(CredentialError, match="generate-srp-data --member"):
        office.do("join", host="alpha")
    office.config = ServerConfig(name="one", allow_root=True, use_tls=False)
    with pytest.raises(ConfigurationError, match="--no-tls"):
        office.do("join", host="alpha")
