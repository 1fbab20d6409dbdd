"""How services interpret the path that a client gives for a file on a node.

- An absolute path is used as it is.
- ``~`` alone, or before a ``/``, is the home folder of the server's account.
- Any other path is below the session's folder of files.

The last two are relative to a folder, and there ``..`` is refused. Files in the session's folder are removed with the
session, so a path must not lead out of it through a symbolic link either. Outside of it, links are followed.
"""

import os
from pathlib import Path

from srp_tools.errors import ConfigurationError


def find_path(remote: str, folder: Path, *, replaces_link: bool = False) -> Path:
    """Return the path that a client means.

    `folder`: the session's folder of files. `replaces_link`: if the path itself is a link, do not follow it.

    Raises `ConfigurationError` if it is not a path, or leads out of the folder that it is relative to.
    """
    if not remote or "\0" in remote:
        raise ConfigurationError(f"{remote!r} is not the name of a file")
    in_home = remote == "~" or remote.startswith("~/")
    path = Path(remote[2:] if in_home else remote)
    if path.is_absolute() and not in_home:
        return path
    path = Path(*(part for part in path.parts if part != "/"))  # "~//x"
    if ".." in path.parts:
        where = "home folder" if in_home else "session's folder of files"
        raise ConfigurationError(
            f"{remote!r} leads out of the {where}: give an absolute path for files elsewhere"
        )
    if in_home:
        return Path.home() / path
    place = folder / path
    check_inside(place.parent if replaces_link and place != folder else place, folder)
    return place


def check_inside(place: Path, folder: Path) -> None:
    """Raise `ConfigurationError` if a path leads out of a folder through a symbolic link."""
    target = Path(os.path.realpath(place))
    if not target.is_relative_to(os.path.realpath(folder)):
        raise ConfigurationError(
            f"{place} leads through a symbolic link to {target}, outside the session's folder of files: "
            "give the absolute path instead"
        )
