"""The host list of the client's configuration: `pconnect` without hosts connects to the deployed servers.

This module changes only files that it wrote itself. Such a file contains nothing but one list; a file with any other
content belongs to the user.
"""

import json
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

from srp_tools.private_files import exclusive_access, write_private

_HEAD = "# pserver deploy keeps this list as long as there is nothing else in this file.\n"


def add_hosts(path: Path, names: Sequence[str]) -> bool:
    """Append hosts to the list, and create the file if it is missing; return whether the list now contains them."""
    with exclusive_access(path):
        present = _read(path)
        if present is None:
            return False
        _write(path, [*present, *names])
    return True


def remove_hosts(path: Path, names: Iterable[str]) -> None:
    """Remove hosts from a file that this module wrote; delete the file with the last host."""
    gone = set(names)
    if not path.exists():
        return
    with exclusive_access(path):
        present = _read(path)
        if present and not gone.isdisjoint(present):
            _write(path, [name for name in present if name not in gone])


def hosts_line(names: Iterable[str]) -> str:
    """Return the configuration line that names hosts.

    Examples
    --------
    >>> hosts_line(["alpha", "beta:12600"])
    'hosts = ["alpha", "beta:12600"]'
    """
    return f"hosts = {json.dumps(list(dict.fromkeys(names)), ensure_ascii=False)}"


def _read(path: Path) -> list[str] | None:
    """Return the hosts in a file of this module; an empty list without a file, ``None`` for a user's own file."""
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
