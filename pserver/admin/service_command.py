"""The command that makes a server a service of this machine: it writes a systemd unit."""

import argparse
import os
import pwd
import shlex
import stat
import sys
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from pserver.admin.config_commands import add_settings
from pserver.admin.options import CommandParser, given_options, options_of
from pserver.admin.settings import resolve, whole
from pserver.config.server_config import ServerConfig
from pserver.systemd.unit import (
    MADE_BELOW,
    MARK,
    Place,
    account_unit,
    accounts_unit,
    state_folder,
    unit_name,
    user_unit,
)
from srp_tools.errors import ConfigurationError
from srp_tools.private_files import server_file

_SYSTEM_UNITS = Path("/etc/systemd/system")

_EPILOG = """\
All options of pserver start go into the unit, as do variables such as PSERVER_SLOTS. Root writes a system unit: with
--account, for a server whose users share that account; without, for a server that runs each session under the account
of its user. Any other account writes a user unit for its own systemd manager.
"""


class Target(NamedTuple):
    """A unit, and the place where it belongs."""

    path: Path
    text: str
    account: str  #: the account under which the server starts
    is_system: bool


def add_install_service(commands: "argparse._SubParsersAction[CommandParser]") -> None:
    """Add the command ``install-service``."""
    parser = commands.add_parser(
        "install-service", help="have systemd start a server at boot", epilog=_EPILOG
    )
    add_settings(parser)
    parser.add_argument("--account", help="Run the server and all sessions under this account.")
    parser.add_argument("--print-unit", action="store_true", help="Print the unit without writing it.")


def install_service(options: argparse.Namespace) -> int:
    """Write or print a unit, and list the next steps."""
    target = make_unit(options)
    if options.print_unit:
        print(target.text, end="")
        return 0
    _write(target)
    print(f"Wrote {target.path}.")
    for line in _next_steps(target):
        print(line)
    return 0


def make_unit(options: argparse.Namespace) -> Target:
    """Return the unit for a command line.

    Raises `ConfigurationError` if a setting is invalid, if the account cannot run a server, or if this is a system unit
    and the command does not run as root.
    """
    is_system = options.account is not None or os.geteuid() == 0
    if is_system and os.geteuid() != 0 and not options.print_unit:
        raise ConfigurationError(
            "only root can write a system unit: run this as root, or print the unit with --print-unit"
        )
    # The server itself reads the default file of its own account when it starts.
    settings = resolve(
        given_options(options), os.environ, options.config, has_default_file=options.account is None
    )
    config = settings.config
    given = {
        name: whole(name, getattr(config, name))
        for name, source in settings.sources.items()
        if settings.path is None or not source.startswith(f"{settings.path}, ")
    }
    command = [sys.executable, "-P", "-m", "pserver", "start", "--foreground"]
    command += [f"--config={options.config.absolute()}"] if options.config else []
    file = unit_name(config.name) + ".service"
    if not is_system:
        text = user_unit(config.name, command + options_of(given))
        return Target(user_units() / file, text, pwd.getpwuid(os.geteuid()).pw_name, is_system=False)
    text, account = _system_unit(options.account, config, command, given)
    return Target(_SYSTEM_UNITS / file, text, account, is_system=True)


def _system_unit(
    account: str | None, config: ServerConfig, command: list[str], given: dict[str, Any]
) -> tuple[str, str]:
    """Return the unit, and the account under which the server starts."""
    ports = (config.cmd_port,) if config.one_port else (config.cmd_port, config.data_port)
    if account is None:
        if config.spool_dir is None:  # the default is in root's home folder, which no other account can enter
            given["spool_dir"] = state_folder(config.name)
        _warn_of_closed(None)
        return accounts_unit(config.name, command + options_of(given), ports), "root"
    entry = _entry(account)
    given.setdefault("shared_account", True)  # --account implies it
    _warn_of_closed(entry)
    text = account_unit(config.name, command + options_of(given), ports, _place(entry, config))
    return text, entry.pw_name


def _entry(name: str) -> pwd.struct_passwd:
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        make = f"useradd --system --create-home --home-dir /var/lib/{name} --shell /usr/sbin/nologin {name}"
        raise ConfigurationError(
            f"--account {name}: there is no such account; create it with: {make}"
        ) from None
    if entry.pw_uid == 0:
        raise ConfigurationError(
            "--account root: all users would be root; leave out --account to run each session under its user's account"
        )
    home = Path(entry.pw_dir)
    if not home.is_dir() or home.stat().st_uid != entry.pw_uid:
        raise ConfigurationError(
            f"--account {name}: it has no home folder for its users' file; give it one with: "
            f"usermod --home /var/lib/{name} {name}; install --directory --mode=0700 --owner={name} /var/lib/{name}"
        )
    return entry


def _place(entry: pwd.struct_passwd, config: ServerConfig) -> Place:
    home = Path(entry.pw_dir)
    writes = [Path(config.spool_dir).absolute()] if config.spool_dir else []
    writes += [Path(config.log_file).absolute().parent] if config.log_file else []
    outside = [path for path in writes if not path.is_relative_to(home)]
    for path in outside:
        if not path.is_dir() and str(path.parent) not in MADE_BELOW:
            make = f"install --directory --mode=0700 --owner={entry.pw_name} {shlex.quote(str(path))}"
            print(
                f"pserver: WARNING: the unit cannot start because there is no folder {path}; create it with: {make}",
                file=sys.stderr,
            )
    return Place(entry.pw_name, home, outside, _own_folders())


def _own_folders() -> list[Path]:
    """Return the folders of Python, its packages and this package."""
    found = {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]}
    return sorted(path for path in found if not any(path.is_relative_to(other) for other in found - {path}))


def _warn_of_closed(entry: pwd.struct_passwd | None) -> None:
    """Warn of a folder that the account cannot enter, or, without an account, that most accounts cannot enter."""
    who = "the accounts of users" if entry is None else f"the account {entry.pw_name}"
    for folder in _own_folders():
        for path in [folder, *folder.parents]:
            if not _is_open(path, entry):
                print(
                    f"pserver: WARNING: {who} cannot enter {path}, so sessions cannot load {folder}; install pserver "
                    "where all accounts can read it, such as /opt/pserver",
                    file=sys.stderr,
                )
                return


def _is_open(path: Path, entry: pwd.struct_passwd | None) -> bool:
    facts = path.stat()
    if entry is not None and facts.st_uid == entry.pw_uid:
        return bool(facts.st_mode & stat.S_IXUSR)
    if entry is not None and facts.st_gid in os.getgrouplist(entry.pw_name, entry.pw_gid):
        return bool(facts.st_mode & stat.S_IXGRP)
    return bool(facts.st_mode & stat.S_IXOTH)


def user_units() -> Path:
    """Return the folder for units of this account's systemd manager."""
    return platformdirs.user_config_path("systemd", appauthor=False) / "user"


def _write(target: Target) -> None:
    try:
        if target.path.exists() and not target.path.read_text(errors="replace").startswith(MARK):
            raise ConfigurationError(
                f"{target.path} was not written by this command; move it away, or give the server another --name"
            )
        target.path.parent.mkdir(parents=True, exist_ok=True)
        target.path.write_text(target.text)
        target.path.chmod(0o644)
    except OSError as error:
        raise ConfigurationError(f"cannot write {target.path}: {error.strerror}") from error


def _next_steps(target: Target) -> list[str]:
    unit = target.path.name
    control = "systemctl" if target.is_system else "systemctl --user"
    journal = "journalctl" if target.is_system else "journalctl --user"
    steps = [
        "To start it now and at every boot:",
        f"  {control} daemon-reload",
        f"  {control} enable --now {unit}",
        f"To see its state and its log: {control} status {unit}; {journal} --unit={unit}",
    ]
    if not target.is_system:
        steps += [
            "The systemd manager of your account ends when you log out, and the server with it, unless lingering is",
            "enabled. To start both at boot and keep them running:",
            f"  loginctl enable-linger {shlex.quote(target.account)}",
        ]
    users = _missing_users_file(target)
    if users is not None:
        steps.append(
            f"It needs users: as {target.account}, create them in {users} with: generate-srp-data USER"
        )
    return steps


def _missing_users_file(target: Target) -> Path | None:
    """Return the users' file of the account if it does not exist yet and the unit names no other."""
    if "--auth-file" in target.text or "--config" in target.text:
        return None
    home = Path(pwd.getpwnam(target.account).pw_dir)
    path = server_file(home / ".config" / "pserver") if target.is_system else server_file()
    return None if path.exists() else path
