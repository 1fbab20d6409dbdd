"""The hosts of the client's configuration, so that `pconnect` without hosts connects to what was deployed.

Only a file that this module wrote is changed. It has one list; whoever writes anything else into it makes it their own.
"""

import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from srp_tools.private_files import exclusive_access, write_private

_HEAD = "# pserver deploy keeps this list as long as there is nothing else in this file.\n"


def add_hosts(path: Path, names: Sequence[str]) -> bool:
    """Put hosts behind those that are there, and make the file if it is missing; return whether they are there now."""
    with exclusive_access(path):
        present = _read(path)
        if present is None:
            return False
        _write(path, [*present, *names])
    return True


def remove_hosts(path: Path, names: Iterable[str]) -> None:
    """Take hosts out of a file that was written here, and remove it with the last one."""
    gone = set(names)
    if not path.exists():
        return
    with exclusive_access(path):
        present = _read(path)
        if present and not gone.isdisjoint(present):
            _write(path, [name for name in present if name not in gone])


def hosts_line(names: Iterable[str]) -> str:
    """Return the line of the configuration that names hosts.

    Examples
    --------
    >>> hosts_line(["alpha", "beta:12600"])
    'hosts = ["alpha", "beta:12600"]'
    """
    return f"hosts = {json.dumps(list(dict.fromkeys(names)), ensure_ascii=False)}"


def _read(path: Path) -> list[str] | None:
    """Return the hosts of a file that was written here, none if it is missing; ``None`` if it is somebody else's."""
    try:
        text = path.read_text(encoding="utf-8")
        names = tomllib.loads(text).get("hosts")
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        return None
    if not isinstance(names, list) or text != _text(names):
        return None
    return names


def _write(path: Path, names: Sequence[str]) -> None:
    if names:
        write_private(path, _text(names))
    else:
        path.unlink()


def _text(names: Iterable[str]) -> str:
    return f"{_HEAD}{hosts_line(names)}\n"
