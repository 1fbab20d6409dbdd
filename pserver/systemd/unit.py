"""The text of units that start a server, derived from the settings of the server and its account. Does no I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pserver.systemd.hardening import ACCOUNTS, ONE_ACCOUNT, USER

#: The first line of every generated unit, which marks it as safe to overwrite.
MARK = "# Written by pserver install-service; the same command writes it again."

_PRIVILEGED_PORTS = range(1, 1024)
_BIND = "CAP_NET_BIND_SERVICE"
_ACCOUNTS_NEED = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE")
# The folders that systemd creates for an account, by their parent folder.
MADE_BELOW = {"/var/lib": "StateDirectory", "/var/log": "LogsDirectory"}
_PLAIN = re.compile(r"[A-Za-z0-9_@/.,:=+%$-]+")


@dataclass(frozen=True)
class Place:
    """The account of a server that all users share, and its folders.

    `account`: its name. `home`: its home folder. `writes`: other folders that the server writes to. `reads`: folders
    that it needs and that may be inside home folders, such as a Python environment.
    """

    account: str
    home: Path
    writes: Sequence[Path] = ()
    reads: Sequence[Path] = ()


def unit_name(name: str) -> str:
    """Return the name of a server's unit, without suffix; `name`: the name of the server.

    Examples
    --------
    >>> unit_name("default"), unit_name("lab")
    ('pserver', 'pserver-lab')
    """
    return "pserver" if name == "default" else f"pserver-{name}"


def user_unit(name: str, command: Sequence[str]) -> str:
    """Return the unit of a user's own server; `command`: the command that starts it."""
    return (
        _heading(name, "of one account, for its own systemd manager", is_system=False)
        + _service(name, command)
        + USER
        + _install("default.target")
    )


def account_unit(name: str, command: Sequence[str], ports: Sequence[int], place: Place) -> str:
    """Return the system unit for a server that runs under one account; `ports`: the ports that it listens on."""
    binds = [f"BindPaths={_quoted(place.home)}\n"] if _is_in_homes(place.home) else []
    binds += [f"BindReadOnlyPaths={_quoted(path)}\n" for path in place.reads if _is_in_homes(path)]
    made = {path: kind for path in place.writes if (kind := MADE_BELOW.get(str(path.parent)))}
    elsewhere = [path for path in place.writes if path not in made]
    writes = [place.home, *elsewhere, Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - the system's own folders
    folders = "".join(f"{kind}={_quoted(path.name)}\n{kind}Mode=0700\n" for path, kind in made.items())
    confined = ONE_ACCOUNT.format(
        capabilities=_BIND if _has_privileged(ports) else "",
        writes=" ".join(map(_quoted, dict.fromkeys(writes))),
        binds="".join(binds),
    )
    own = f"User={_quoted(place.account)}\nWorkingDirectory=-~\n"
    return (
        _heading(name, f"whose users share the account {place.account}", is_system=True)
        + _service(name, command, _NO_DYNAMIC_USER + own + folders + _run_time(name))
        + confined
        + _install("multi-user.target")
    )


def accounts_unit(name: str, command: Sequence[str], ports: Sequence[int]) -> str:
    """Return the system unit for a server of root that runs sessions under the accounts of their users."""
    state = (
        f"# Accounts pass through this folder to folders of their own.\nStateDirectory={unit_name(name)}\n"
    )
    capabilities = [*_ACCOUNTS_NEED, *([_BIND] if _has_privileged(ports) else [])]
    return (
        _heading(name, "of root, with an account for each user", is_system=True)
        + _service(name, command, f"{state}StateDirectoryMode=0711\n{_run_time(name, come_back=False)}")
        + ACCOUNTS.format(capabilities=" ".join(capabilities))
        + _install("multi-user.target")
    )


def state_folder(name: str) -> Path:
    """Return the state folder of a server of root, which systemd creates for the unit."""
    return Path("/var/lib", unit_name(name))


def command_line(words: Sequence[str]) -> str:
    r"""Return a command for ``ExecStart=``, escaped so that systemd expands nothing in it (systemd.service(5)).

    Examples
    --------
    >>> print(command_line(["/bin/echo", "a b", '50% of "$HOME"']))
    /bin/echo "a b" "50%% of \"$$HOME\""
    """
    return " ".join(_quoted(word.replace("$", "$$")) for word in words)


_NO_DYNAMIC_USER = """\
# No DynamicUser: the users' file belongs to the account, and changes while the server runs. As a credential, systemd
# would copy it only at the start.
"""


def _heading(name: str, which: str, *, is_system: bool) -> str:
    after = (
        "Wants=network-online.target\nAfter=network-online.target nss-user-lookup.target remote-fs.target\n"
    )
    return f"""\
{MARK}
# A pserver {which}.
[Unit]
Description=pserver {name}: compute server
{after if is_system else ""}# systemd gives up on a server that keeps failing to start, as with wrong settings.
StartLimitIntervalSec=120
StartLimitBurst=5

"""


def _service(name: str, command: Sequence[str], own: str = "") -> str:
    return f"""\
[Service]
# The daemon reports when it is ready, and sends keep-alive messages; systemd restarts it if its loop hangs.
Type=notify
WatchdogSec=60
ExecStart={command_line(command)}
ExecReload=/bin/kill -HUP $MAINPID
{own}SyslogIdentifier={unit_name(name)}
Restart=on-failure
RestartSec=2
# Restarting cannot fix a wrong command line.
RestartPreventExitStatus=2
# The daemon ends its sessions cleanly when it stops. If it is killed, they keep running, and its successor adopts them.
KillMode=process
TimeoutStopSec=30
# A job that uses up the memory is killed, but not the server and its other jobs.
OOMPolicy=continue
# Limits of sessions are control groups inside the unit's own.
Delegate=yes
TasksMax=32768
# The soft limit protects programs that use select(2); the server raises its own.
LimitNOFILE=1024:524288

"""


def _run_time(name: str, *, come_back: bool = True) -> str:
    """Return the settings of the run-time folder; `come_back`: whether sessions return to the next server."""
    folder = unit_name(name)
    why = (
        "A server finds the sessions of its killed predecessor here."
        if come_back
        else "Used by this server only."
    )
    return f"""\
# {why}
RuntimeDirectory={folder}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=restart
Environment=XDG_RUNTIME_DIR=%t/{folder}
"""


def _install(target: str) -> str:
    return f"\n[Install]\nWantedBy={target}\n"


def _has_privileged(ports: Sequence[int]) -> bool:
    return any(port in _PRIVILEGED_PORTS for port in ports)


def _is_in_homes(path: Path) -> bool:
    """Whether ``ProtectHome=`` hides this path."""
    return any(path.is_relative_to(folder) for folder in ("/home", "/root", "/run/user"))


def _quoted(word: str | Path) -> str:
    text = str(word).replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    # A line break would end the setting, as would other control characters such as a carriage return.
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\x{ord(c):02x}" for c in text) + '"'
