"""The text of units: systemd accepts each without warnings, and each contains the given settings."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pserver.systemd.unit import (
    MARK,
    Place,
    account_unit,
    accounts_unit,
    command_line,
    state_folder,
    unit_name,
    user_unit,
)
from tests.support.service_manager import Unit
from tests.support.systemd_analyze import needs_systemd, verify

COMMAND = [sys.executable, "-m", "pserver", "start", "--allow-users=a b", "--name=50%"]
CHARACTERS = st.characters(exclude_characters="\0", codec="utf-8")
PORTS = (12502, 12501)
PLACE = Place("daemon", Path("/home/lab"), [Path("/srv/my spool")], [Path("/root/venv"), Path("/opt/python")])


@needs_systemd
@pytest.mark.parametrize(
    "text",
    [
        user_unit("default", COMMAND),
        account_unit("lab", COMMAND, PORTS, PLACE),
        accounts_unit("lab", COMMAND, PORTS),
        accounts_unit("lab", COMMAND, (443, 0)),
        account_unit("lab", COMMAND, PORTS, Place("daemon", Path("/srv/lab"), [Path("/var/log/lab")])),
    ],
)
def test_systemd_finds_nothing_wrong(text: str, tmp_path: Path) -> None:
    assert text.startswith(MARK)
    assert verify(text, tmp_path, is_system="multi-user" in text) == ""


@needs_systemd
def test_it_finds_what_is_wrong(tmp_path: Path) -> None:
    text = accounts_unit("lab", ["/nowhere/pserver"], PORTS).replace("KillMode=process", "KillMode=perhaps")
    found = verify(text, tmp_path, is_system=True)
    assert "perhaps" in found and "/nowhere/pserver" in found


def test_an_account_has_its_folders_and_no_others() -> None:
    unit = Unit(account_unit("lab", COMMAND, PORTS, PLACE))
    assert unit.one("User") == "daemon"
    assert unit.words("ReadWritePaths") == ["/home/lab", "/srv/my spool", "/tmp", "/var/tmp"]
    assert unit.words("BindPaths") == ["/home/lab"]
    assert unit.words("BindReadOnlyPaths") == ["/root/venv"]
    assert unit.one("CapabilityBoundingSet") == unit.one("AmbientCapabilities") == ""
    assert unit.command == COMMAND


def test_what_systemd_can_make_need_not_be_there() -> None:
    place = Place(
        "daemon", Path("/home/lab"), [Path("/var/log/lab"), Path("/var/lib/lab"), Path("/var/lib/a/b")]
    )
    text = account_unit("lab", COMMAND, PORTS, place)
    unit = Unit(text)
    assert (unit.one("LogsDirectory"), unit.one("LogsDirectoryMode")) == ("lab", "0700")
    assert (unit.one("StateDirectory"), unit.one("StateDirectoryMode")) == ("lab", "0700")
    assert unit.words("ReadWritePaths") == ["/home/lab", "/var/lib/a/b", "/tmp", "/var/tmp"]


def test_low_ports_need_a_capability() -> None:
    assert (
        Unit(account_unit("lab", COMMAND, (443, 12501), PLACE)).one("AmbientCapabilities")
        == "CAP_NET_BIND_SERVICE"
    )
    assert "CAP_NET_BIND_SERVICE" in Unit(accounts_unit("lab", COMMAND, (443, 444))).one(
        "CapabilityBoundingSet"
    )
    assert "CAP_NET_BIND_SERVICE" not in accounts_unit("lab", COMMAND, (0, 1024))


def test_sessions_end_in_order_and_survive_the_daemon() -> None:
    for text in (
        user_unit("x", COMMAND),
        accounts_unit("x", COMMAND, PORTS),
        account_unit("x", COMMAND, PORTS, PLACE),
    ):
        unit = Unit(text)
        assert unit.one("Type") == "notify"
        assert unit.one("KillMode") == "process"
        assert unit.one("Restart") == "on-failure"
        assert unit.one("Delegate") == "yes"
        assert unit.one("OOMPolicy") == "continue"
        assert int(unit.one("WatchdogSec")) > 10


def test_accounts_pass_through_the_state_folder() -> None:
    unit = Unit(accounts_unit("lab", COMMAND, PORTS))
    assert unit.one("StateDirectoryMode") == "0711"
    assert Path("/var/lib", unit.one("StateDirectory")) == state_folder("lab")


def test_the_run_time_folder_is_closed_to_accounts() -> None:
    for text in (accounts_unit("lab", COMMAND, PORTS), account_unit("lab", COMMAND, PORTS, PLACE)):
        assert Unit(text).one("RuntimeDirectoryMode") == "0700"


def test_names_of_units() -> None:
    assert [unit_name("default"), unit_name("a.b_c")] == ["pserver", "pserver-a.b_c"]


@given(words=st.lists(st.text(CHARACTERS), min_size=1))
def test_a_command_is_read_as_it_was_written(words: list[str]) -> None:
    assert Unit(f"[Service]\nExecStart={command_line(words)}\n").command == words


@needs_systemd
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(word=st.text(CHARACTERS, max_size=20))
@pytest.mark.slow
def test_systemd_reads_any_command(word: str, tmp_path: Path) -> None:
    assert verify(user_unit("x", ["/bin/true", word]), tmp_path, is_system=False) == ""
