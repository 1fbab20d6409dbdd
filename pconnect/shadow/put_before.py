"""Stand-ins in a folder that comes first in PATH. This way changes no installed program."""

import contextlib
import os
from pathlib import Path

import platformdirs

from pconnect.shadow.changes import changing, check_closed, sync_folder, write_file
from pconnect.shadow.stand_in import StandIn, check_name, read_stand_in
from srp_tools.errors import ConfigurationError

_NEW = ".pshadow-new"  # ends the name of a stand-in while it is being written
_MODE = 0o755


def default_folder() -> str:
    """Return the default folder for this user's stand-ins. It need not exist."""
    return str(platformdirs.user_data_path("pserver", appauthor=False) / "shadow" / "bin")


def stand_ins(folder: str) -> dict[str, StandIn]:
    """Return the stand-ins in a folder by name; an empty `dict` if the folder does not exist."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - a name need not be valid text
    except OSError:
        return {}
    found = {name: read_stand_in(Path(folder, name)) for name in names if not name.endswith(_NEW)}
    return {name: each for name, each in found.items() if each is not None and not each.in_place}


def put(folder: str, wanted: dict[str, StandIn], scripts: dict[str, bytes]) -> list[str]:
    """Put stand-ins into a folder and return the names of the new and changed ones. Creates the folder if missing.

    Raises `ConfigurationError` if another file has one of the names, or if the folder cannot be written. Then all
    stand-ins are unchanged.
    """
    for name in wanted:
        check_name(name)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot create the folder {folder}: {error.strerror}") from error
    with changing(folder):
        check_closed(folder)
        _tidy(folder)
        for name in wanted:
            _check_free(folder, name)
        changed = [name for name in wanted if _content(Path(folder, name)) != scripts[name]]
        try:
            for name in changed:  # a full disk is noticed before the first stand-in is replaced
                write_file(Path(folder, f".{name}{_NEW}"), scripts[name], _MODE)
        except OSError:
            _tidy(folder)
            raise
        for name in changed:
            Path(folder, f".{name}{_NEW}").rename(Path(folder, name))
        sync_folder(Path(folder))
    return changed


def take_away(folder: str, names: list[str]) -> list[str]:
    """Remove the named stand-ins, or all if `names` is empty, and return the names of the removed ones.

    Other files stay. Raises `ConfigurationError` if the folder cannot be written.
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
    """Remove unfinished files that a killed `pshadow` left behind."""
    for name in os.listdir(folder):  # noqa: PTH208
        if name.startswith(".") and name.endswith(_NEW):
            Path(folder, name).unlink()


def _check_free(folder: str, name: str) -> None:
    path = Path(folder, name)
    stand_in = read_stand_in(path)
    if os.path.lexists(path) and (stand_in is None or stand_in.in_place):
        raise ConfigurationError(f"{path} exists and is not a stand-in; use another folder with --dir")


def _content(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return None
