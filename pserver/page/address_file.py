"""The file in the run-time folder with the address of a server's page, for `pserver status` of the same account.

The address has the token, so the file is its owner's alone. It goes with the process of the page.
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
    """Have the file of the server of a name, with the address of its page, while the block runs."""
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
    """Return the address of the page of a server, with its token; ``None`` if it has none.

    `folder`: its run-time folder, if that is not ours.
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
