"""The restrictions of units as rated by systemd, and the reason for each of them."""

from pathlib import Path

import pytest

from pserver.systemd.hardening import ACCOUNTS, ONE_ACCOUNT, USER
from pserver.systemd.unit import Place, account_unit, accounts_unit, user_unit
from tests.support.systemd_analyze import exposure, needs_systemd

COMMAND = ["/bin/true"]


@needs_systemd
def test_one_account_is_exposed_little(tmp_path: Path) -> None:
    text = account_unit("default", COMMAND, (12502, 12501), Place("daemon", Path("/var/lib/pserver")))
    assert exposure(text, tmp_path) <= 3.0


@needs_systemd
def test_accounts_are_exposed_more_but_less_than_without_hardening(tmp_path: Path) -> None:
    bare = exposure("[Service]\nExecStart=/bin/true\n", tmp_path)
    assert exposure(accounts_unit("default", COMMAND, (12502, 12501)), tmp_path) < bare - 3
    assert exposure(user_unit("default", COMMAND), tmp_path) < bare


@pytest.mark.parametrize("part", [ONE_ACCOUNT, ACCOUNTS, USER])
def test_what_computations_need_is_allowed_and_the_unit_says_why(part: str) -> None:
    lines = part.splitlines()
    # Code that is compiled at run time; files that survive a restart of the daemon; limits by control groups.
    for name in (
        "MemoryDenyWriteExecute",
        "PrivateTmp",
        "PrivateDevices",
        "ProcSubset",
        "ProtectControlGroups",
    ):
        assert not any(line.startswith(f"{name}=") for line in lines)
    assert "numba" in part
    assert "NoNewPrivileges=yes" in lines
