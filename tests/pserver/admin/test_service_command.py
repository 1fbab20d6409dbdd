"""The command that writes a unit; `tests.integration.test_service` runs servers from such units."""

import argparse
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pserver.admin import service_command
from pserver.admin.options import CommandParser
from pserver.admin.service_command import add_install_service, install_service, make_unit
from pserver.cli import main
from srp_tools.errors import ConfigurationError
from tests.support.accounts import NOBODY, in_child, needs_root
from tests.support.own_accounts import passable_folder, run_in_own_accounts
from tests.support.places import use_private_places
from tests.support.service_manager import Unit
from tests.support.systemd_analyze import needs_systemd, verify


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_places(tmp_path, monkeypatch)


def unit_of(*words: str) -> Unit:
    return Unit(make_unit(parse(*words)).text)


def parse(*words: str) -> argparse.Namespace:
    parser = CommandParser()
    add_install_service(parser.add_subparsers())
    return parser.parse_args(["install-service", *words])


def as_person(attempt: Callable[[], object]) -> str:
    """Return the message that an account other than root gets."""
    return in_child(NOBODY, lambda: str(attempt())) if os.geteuid() == 0 else str(attempt())


def test_all_options_of_a_start_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "my settings.toml"
    config.write_text('max_failures = 9\nname = "lab"\nuse_tls = true\n')
    config.chmod(0o600)
    monkeypatch.setenv("PSERVER_SLOTS", "3")
    monkeypatch.chdir(tmp_path)
    words = [
        "--config",
        config.name,
        "--allow-users=alice,bob b",
        "--auth-file=users",
        "--spool-dir=%h",
        "--tls",
        "-d",
    ]
    command = unit_of(*words).command
    assert command[:6] == [sys.executable, "-P", "-m", "pserver", "start", "--foreground"]
    assert sorted(command[6:]) == sorted(
        [
            f"--config={config}",
            "--allow-users=alice",
            "--allow-users=bob b",
            f"--auth-file={tmp_path}/users",
            f"--spool-dir={tmp_path}/%h",
            "--slots=3",
            "--tls",
            "--debug",
        ]
    )
    assert make_unit(parse(*words)).path.name == "pserver-lab.service"


def test_settings_are_checked_before() -> None:
    with pytest.raises(ConfigurationError, match="--log-files 1"):
        make_unit(parse("--log-files=1"))


@needs_root
def test_root_makes_a_unit_with_an_account_for_each_user() -> None:
    target = make_unit(parse())
    unit = Unit(target.text)
    assert (str(target.path), target.account) == ("/etc/systemd/system/pserver.service", "root")
    assert "--spool-dir=/var/lib/pserver" in unit.command
    assert "CAP_SETUID" in unit.one("CapabilityBoundingSet")


def test_a_person_makes_a_unit_of_the_own_manager(tmp_path: Path) -> None:
    def attempt() -> str:
        target = make_unit(parse("--name=lab"))
        return f"{target.path} {target.is_system} {Unit(target.text).one('WantedBy')}"

    assert as_person(attempt) == f"{tmp_path}/config/systemd/user/pserver-lab.service False default.target"


def test_only_root_writes_a_unit_of_the_system() -> None:
    assert "only root can write a system unit" in as_person(lambda: failure_of("--account=daemon"))
    assert "--account nobody-at-all: there is no such account; create it with: useradd" in as_person(
        lambda: failure_of("--account=nobody-at-all", "--print-unit")
    )


def failure_of(*words: str) -> str:
    try:
        make_unit(parse(*words))
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("account", "error"),
    [
        ("root", "all users would be root"),
        ("daemon", "it has no home folder"),
        ("no\0body", "there is no such account"),
    ],
)
def test_an_account_has_to_be_one_for_a_server(account: str, error: str) -> None:
    assert error in failure_of(f"--account={account}", "--print-unit")


@needs_root
@needs_systemd
def test_a_unit_for_one_account(tmp_path: Path) -> None:
    code = "import sys; from pserver.cli import main; main(sys.argv[1:])"
    options = ["--account=alice", "--print-unit", "--log-file=/srv/log/pserver.log", "--name=lab"]
    text = run_in_own_accounts(
        code.replace("main(", "sys.stderr = sys.stdout; main("), "install-service", *options
    )
    make = "create it with: install --directory --mode=0700 --owner=alice /srv/log"
    assert f"the unit cannot start because there is no folder /srv/log; {make}" in text
    text = run_in_own_accounts(code, "install-service", *options)
    unit = Unit(text)
    assert unit.one("User") == "alice"
    assert unit.words("ReadWritePaths") == ["/home/alice", "/srv/log", "/tmp", "/var/tmp"]
    assert unit.words("BindPaths") == ["/home/alice"]
    assert "--shared-account" in unit.command
    # The account does not exist on this machine itself.
    assert (
        verify(
            text.replace("User=alice", "User=daemon"), tmp_path, is_system=True, name="pserver-lab.service"
        )
        == ""
    )


def test_it_is_written_again_but_nothing_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service_command, "_SYSTEM_UNITS", tmp_path / "config" / "systemd" / "user")
    path = tmp_path / "config" / "systemd" / "user" / "pserver.service"
    old = os.umask(0o077)
    try:
        for slots in ("1", "2"):
            assert install_service(parse(f"--slots={slots}")) == 0
            assert f"--slots={slots}" in Unit(path.read_text()).command
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    said = capsys.readouterr().out
    assert f"Wrote {path}." in said and "enable --now pserver.service" in said
    assert "generate-srp-data USER" in said
    path.write_text("[Service]\n")
    with pytest.raises(ConfigurationError, match="was not written by this command"):
        install_service(parse())


def test_lingering_is_explained(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with passable_folder() as folder:
        config = folder / "config"
        config.mkdir()
        config.chmod(0o777)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
        as_person(lambda: (install_service(parse()), sys.stdout.flush()))
        assert (config / "systemd" / "user" / "pserver.service").exists()
    said = capfd.readouterr().out
    assert "loginctl enable-linger " in said and "systemctl --user enable --now pserver.service" in said


def test_the_unit_can_be_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["install-service", "--print-unit"]) == 0
    assert Unit(capsys.readouterr().out).one("Type") == "notify"
    assert not (tmp_path / "config" / "systemd").exists()
