"""The units that start a server: as text, made of what is known of the server and the account. No input or output."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pserver.systemd.hardening import ACCOUNTS, ONE_ACCOUNT, USER

#: The first line of each unit that we have written: it may be replaced.
MARK = "# Written by pserver install-service; the same command writes it again."

_PRIVILEGED_PORTS = range(1, 1024)
_BIND = "CAP_NET_BIND_SERVICE"
_ACCOUNTS_NEED = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE")
# What systemd makes for an account, if it is directly below.
MADE_BELOW = {"/var/lib": "StateDirectory", "/var/log": "LogsDirectory"}
_PLAIN = re.compile(r"[A-Za-z0-9_@/.,:=+%$-]+")


@dataclass(frozen=True)
class Place:
    """The account of a server that all users share, and its folders.

    `account`: its name. `home`: its folder. `writes`: folders outside of it that the server writes to. `reads`: folders
    that it needs and that may be in homes, as an environment of Python.
    """

    account: str
    home: Path
    writes: Sequence[Path] = ()
    reads: Sequence[Path] = ()


def unit_name(name: str) -> str:
    """Return the name of the unit of a server, without its ending; `name`: of the server.

    Examples
    --------
    >>> unit_name("default"), unit_name("lab")
    ('pserver', 'pserver-lab')
    """
    return "pserver" if name == "default" else f"pserver-{name}"


def user_unit(name: str, command: Sequence[str]) -> str:
    """Return the unit of a person's own server; `command`: what starts it."""
    return (
        _heading(name, "of one account, for the manager of this account", is_system=False)
        + _service(name, command)
        + USER
        + _install("default.target")
    )


def account_unit(name: str, command: Sequence[str], ports: Sequence[int], place: Place) -> str:
    """Return the unit of the system for a server that runs under an account; `ports`: at which it listens."""
    binds = [f"BindPaths={_quoted(place.home)}\n"] if _is_in_homes(place.home) else []
    binds += [f"BindReadOnlyPaths={_quoted(path)}\n" for path in place.reads if _is_in_homes(path)]
    made = {path: kind for path in place.writes if (kind := MADE_BELOW.get(str(path.parent)))}
    elsewhere = [path for path in place.writes if path not in made]
    writes = [place.home, *elsewhere, Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - they are the system's
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
    """Return the unit of the system for a server of root, whose sessions run under the accounts of their users."""
    state = f"# Accounts pass through it to folders of their own.\nStateDirectory={unit_name(name)}\n"
    capabilities = [*_ACCOUNTS_NEED, *([_BIND] if _has_privileged(ports) else [])]
    return (
        _heading(name, "of root, with an account for each user", is_system=True)
        + _service(name, command, f"{state}StateDirectoryMode=0711\n{_run_time(name, come_back=False)}")
        + ACCOUNTS.format(capabilities=" ".join(capabilities))
        + _install("multi-user.target")
    )


def state_folder(name: str) -> Path:
    """Return the folder for the state of a server of root, which the unit has systemd make."""
    return Path("/var/lib", unit_name(name))


def command_line(words: Sequence[str]) -> str:
    r"""Return a command as ``ExecStart=`` takes it: nothing in it is expanded (systemd.service(5)).

    Examples
    --------
    >>> print(command_line(["/bin/echo", "a b", '50% of "$HOME"']))
    /bin/echo "a b" "50%% of \"$$HOME\""
    """
    return " ".join(_quoted(word.replace("$", "$$")) for word in words)


_NO_DYNAMIC_USER = """\
# Not DynamicUser: the users' file belongs to the account, and you change it while the server runs. systemd would copy
# it as a credential, and only at the start.
"""


def _heading(name: str, which: str, *, is_system: bool) -> str:
    after = (
        "Wants=network-online.target\nAfter=network-online.target nss-user-lookup.target remote-fs.target\n"
    )
    return f"""\
{MARK}
# A pserver {which}.
[Unit]
Description=pserver {name}: lends processors to users who log in
{after if is_system else ""}# A server that cannot start, as with wrong settings, is not tried for ever.
StartLimitIntervalSec=120
StartLimitBurst=5

"""


def _service(name: str, command: Sequence[str], own: str = "") -> str:
    return f"""\
[Service]
# The daemon says when it is ready, and that it lives: one whose loop hangs is replaced. Engines may compute for days.
Type=notify
WatchdogSec=60
ExecStart={command_line(command)}
ExecReload=/bin/kill -HUP $MAINPID
{own}SyslogIdentifier={unit_name(name)}
Restart=on-failure
RestartSec=2
# Wrong usage stays wrong.
RestartPreventExitStatus=2
# The daemon ends its sessions in order when it is stopped. When it is killed, they go on, and the next one takes them.
KillMode=process
TimeoutStopSec=30
# A job that uses up the memory ends, and not the server with all the others.
OOMPolicy=continue
# Limits of sessions are groups below the unit's own.
Delegate=yes
TasksMax=32768
# The soft limit is what programs with select(2) need; the server raises its own.
LimitNOFILE=1024:524288

"""


def _run_time(name: str, *, come_back: bool = True) -> str:
    """Return where the run-time folder is; `come_back`: whether sessions come to the next server."""
    folder = unit_name(name)
    why = (
        "Where a server that follows a killed one finds its sessions."
        if come_back
        else "For this server alone."
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
    """Whether ``ProtectHome=`` hides it."""
    return any(path.is_relative_to(folder) for folder in ("/home", "/root", "/run/user"))


def _quoted(word: str | Path) -> str:
    text = str(word).replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    # The end of a line would end the setting; so would others, such as a carriage return.
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\x{ord(c):02x}" for c in text) + '"'
