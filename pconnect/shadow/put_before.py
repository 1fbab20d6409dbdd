"""The safe way: a folder of stand-ins that comes first in PATH. No program is touched."""

import contextlib
import os
from pathlib import Path

import platformdirs

from pconnect.shadow.changes import changing, check_closed, sync_folder, write_file
from pconnect.shadow.stand_in import StandIn, check_name, read_stand_in
from srp_tools.errors import ConfigurationError

_NEW = ".pshadow-new"  # what a stand-in is called while it is written
_MODE = 0o755


def default_folder() -> str:
    """Return the folder of this user's stand-ins. It need not exist."""
    return str(platformdirs.user_data_path("pserver", appauthor=False) / "shadow" / "bin")


def stand_ins(folder: str) -> dict[str, StandIn]:
    """Return the stand-ins that a folder has, by their names; none if there is no such folder."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - their bytes need not be text
    except OSError:
        return {}
    found = {name: read_stand_in(Path(folder, name)) for name in names if not name.endswith(_NEW)}
    return {name: each for name, each in found.items() if each is not None and not each.in_place}


def put(folder: str, wanted: dict[str, StandIn], scripts: dict[str, bytes]) -> list[str]:
    """Put stand-ins into a folder, which is made if it is missing; return the names of those that are new or changed.

    Raises `ConfigurationError` if one of the names is taken by something else, or the folder cannot be written: then
    all are as they were before.
    """
    for name in wanted:
        check_name(name)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot make the folder {folder}: {error.strerror}") from error
    with changing(folder):
        check_closed(folder)
        _tidy(folder)
        for name in wanted:
            _check_free(folder, name)
        changed = [name for name in wanted if _content(Path(folder, name)) != scripts[name]]
        try:
            for name in changed:  # all that needs room comes before the first change
                write_file(Path(folder, f".{name}{_NEW}"), scripts[name], _MODE)
        except OSError:
            _tidy(folder)
            raise
        for name in changed:
            Path(folder, f".{name}{_NEW}").rename(Path(folder, name))
        sync_folder(Path(folder))
    return changed


def take_away(folder: str, names: list[str]) -> list[str]:
    """Remove stand-ins, all if none are named; return the names of those that were there.

    What is not a stand-in stays. Raises `ConfigurationError` if the folder cannot be written.
    """
    if not Path(folder).is_dir():
        return []
    with changing(folder):
        _tidy(folder)
        found = [name for name in stand_ins(folder) if not names or name in names]
        for name in found:
            Path(folder, name).unlink()
    return found


def _tidy(folder: str) -> None:
    """Remove what one that was killed has left half written."""
    for name in os.listdir(folder):  # noqa: PTH208
        if name.startswith(".") and name.endswith(_NEW):
            Path(folder, name).unlink()


def _check_free(folder: str, name: str) -> None:
    path = Path(folder, name)
    stand_in = read_stand_in(path)
    if os.path.lexists(path) and (stand_in is None or stand_in.in_place):
        raise ConfigurationError(
            f"{path} is no stand-in of pshadow and is left alone; use another folder, with --dir"
        )


def _content(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None
