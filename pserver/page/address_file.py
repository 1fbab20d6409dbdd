"""The file in the run-time folder with the address of a server's page, which `pserver status` shows.

The address contains the token, so only this account can read the file. It is removed when the page's process ends.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pserver.system.processes import start_ticks
from pserver.system.runtime_dir import open_own, run_time_folder

_MOST_BYTES = 4096


def _path(name: str, folder: Path | None) -> Path:
    return (folder or run_time_folder()) / f"{name}.page"


@contextlib.contextmanager
def address_shown(name: str, url: str) -> Iterator[None]:
    """Keep the address of a server's page in its file while the block runs; `name`: the name of the server."""
    path = _path(name, None)
    pid = os.getpid()
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump({"url": url, "pid": pid, "began": start_ticks(pid)}, file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def shown_address(name: str, folder: Path | None = None) -> str | None:
    """Return the address of a server's page, with its token; ``None`` if it has none.

    `folder`: the server's run-time folder, if not this account's.
    """
    try:
        with os.fdopen(open_own(_path(name, folder), os.O_RDONLY), "rb") as file:
            told = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return None
    match told:
        case {"url": str(url), "pid": int(pid), "began": int(began)} if start_ticks(pid) == began:
            return url
    return None
