"""The working folder of a program on the server, and the environment variables that it gets."""

import fnmatch
import os
import posixpath
import shlex
from collections.abc import Iterable, Mapping

from pconnect.prun.settings import Settings

#: Variables that belong to a session on one machine (account, folders, display, parent processes), and those with our
#: own passwords. ``env_all`` leaves them out; ``env`` can name them.
SESSION_VARIABLES = (
    "HOME", "PATH", "SHELL", "USER", "LOGNAME", "USERNAME", "HOSTNAME", "HOST", "MAIL", "TERM*", "COLORTERM", "LINES",
    "COLUMNS", "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR", "TEMP", "TMP", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
    "XDG_*", "DBUS_*", "SSH_*", "GPG_*", "LD_PRELOAD", "TMUX*", "STY", "WINDOWID", "MAKEFLAGS", "MFLAGS", "MAKELEVEL",
    "PCONNECT_*", "PSERVER_*",
)  # fmt: skip


def folder_here(cwd: str, pwd: str | None) -> str:
    """Return the user's name for the current folder: the value of ``PWD`` if it still leads there.

    Symbolic links give a folder several names, for instance on machines that mount homes on demand. The system knows
    only the name without links, which other machines often lack.

    Parameters
    ----------
    cwd
        The folder from `os.getcwd`.
    pwd
        The variable ``PWD`` of the client.
    """
    if not pwd or not pwd.startswith("/") or {".", ".."}.intersection(pwd.split("/")):
        return cwd
    try:
        return pwd if os.path.samefile(pwd, cwd) else cwd  # noqa: PTH121 - these are strings
    except OSError:
        return cwd


def there(cwd: str, settings: Settings, real: str = "") -> str:
    """Return the working folder of a program on the server.

    Parameters
    ----------
    cwd
        The folder here, see `folder_here`. It may contain ``..`` and redundant slashes.
    settings
        An absolute ``cwd`` takes precedence. A relative one starts from the folder that would be used without it.
        Otherwise the longest folder of ``map_dir`` that contains `cwd` is replaced by its counterpart.
    real
        The same folder without symbolic links. It is used if no folder of ``map_dir`` contains `cwd`.

    Examples
    --------
    >>> mapped = Settings(map_dir=(("/home/me", "/srv/me/"), ("/home/me/data", "/data")))
    >>> [there(cwd, mapped) for cwd in ("/home/me/a", "/home/me/data/x/../y/", "/home/mel", "/home/me/")]
    ['/srv/me/a', '/data/y', '/home/mel', '/srv/me']
    """
    if settings.cwd.startswith("/"):
        return _plain(settings.cwd)
    folder = _mapped(_plain(cwd), settings.map_dir)
    if folder is None and real:
        folder = _mapped(_plain(real), settings.map_dir)
    return _plain(posixpath.join(_plain(cwd) if folder is None else folder, settings.cwd))


def no_folder(node: int, host: str, folder: str, here: str, settings: Settings) -> str:
    """Return the error message for a folder that a node does not have, with the remedies.

    Parameters
    ----------
    node, host
        The node.
    folder
        The missing folder, from `there`.
    here
        The folder here.
    settings
        The settings of the program.
    """
    origin = ""
    if settings.cwd:
        origin = f" (from --cd {shlex.quote(settings.cwd)})"
    elif folder != here:
        origin = f" (map_dir of {here})"
    quoted = shlex.quote(here)
    return (
        f"node {node} ({host}) has no folder {folder}{origin}, so the program was not run; use one of:\n"
        f"  --map-dir {quoted}=THERE   if the server has the same files in another folder\n"
        "  --cd DIR                to run it in another folder of the server\n"
        "  --send FILE --fetch FILE  to run it in a private folder, and to transfer these files\n"
        "  --sync                  to send this folder, and fetch its changes"
    )


def environment(settings: Settings, here: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the variables to add to the environment of a program on the server.

    ``env_all`` adds all variables except `SESSION_VARIABLES`. ``env`` adds further ones; the last value of a name wins.
    A ``NAME`` that is not set here is left out, as with ``SendEnv`` of ssh, so that a rule can name variables that only
    some users have. It may be a pattern, such as ``OMP_*``. A program on a terminal gets ``TERM``, which describes the
    terminal here.

    Parameters
    ----------
    settings
        Only ``env``, ``env_all`` and ``terminal`` are used.
    here
        The environment here.

    Examples
    --------
    >>> environment(Settings(env=("LANG", "OMP_*", "A=b=c")), {b"LANG": b"C", b"OMP_X": b"1", b"HOME": b"/"})
    {b'LANG': b'C', b'OMP_X': b'1', b'A': b'b=c'}
    """
    found: dict[bytes, bytes] = {}
    if settings.env_all:
        found |= {name: value for name, value in here.items() if not _is_one_of(name, SESSION_VARIABLES)}
    if settings.terminal:
        found |= {name: here[name] for name in (b"TERM", b"COLORTERM") if name in here}
    for entry in settings.env:
        name, equals, value = entry.partition("=")
        if equals:
            found[os.fsencode(name)] = os.fsencode(value)
        else:
            found |= {each: here[each] for each in here if _is_one_of(each, [name])}
    return found


def _is_one_of(name: bytes, patterns: Iterable[str]) -> bool:
    text = os.fsdecode(name)
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def _plain(path: str) -> str:
    """Return a path without redundant dots and slashes."""
    plain = posixpath.normpath(path)
    return plain[1:] if plain.startswith("//") else plain  # POSIX lets systems give "//" a special meaning


def _mapped(folder: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    """Return the counterpart of a folder, ``None`` if no pair contains it."""
    fitting = [
        (len(plain), plain, counterpart)
        for here, counterpart in pairs
        if folder == (plain := _plain(here)) or folder.startswith(plain.rstrip("/") + "/")
    ]
    if not fitting:
        return None
    _, plain, counterpart = max(fitting, key=lambda each: each[0])
    return _plain(posixpath.join(counterpart, folder[len(plain) :].lstrip("/")))
