"""Where a program runs: the folder on the server for a folder here, and which variables of the environment it gets."""

import fnmatch
import os
import posixpath
import shlex
from collections.abc import Iterable, Mapping

from pconnect.prun.settings import Settings

#: Variables that are of a session on one machine: its account, its folders, its screen, what runs it, and where our own
#: passwords are. ``env_all`` leaves them out; ``env`` can name them.
SESSION_VARIABLES = (
    "HOME", "PATH", "SHELL", "USER", "LOGNAME", "USERNAME", "HOSTNAME", "HOST", "MAIL", "TERM*", "COLORTERM", "LINES",
    "COLUMNS", "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR", "TEMP", "TMP", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
    "XDG_*", "DBUS_*", "SSH_*", "GPG_*", "LD_PRELOAD", "TMUX*", "STY", "WINDOWID", "MAKEFLAGS", "MFLAGS", "MAKELEVEL",
    "PCONNECT_*", "PSERVER_*",
)  # fmt: skip


def folder_here(cwd: str, pwd: str | None) -> str:
    """Return the name of the current folder as the user sees it: that of ``PWD`` if it still leads there.

    A folder has several names where symbolic links lead to it, as on machines that mount homes on demand; the system
    knows only the one without links, which other machines often lack.

    Parameters
    ----------
    cwd
        What the system says, from `os.getcwd`.
    pwd
        The variable ``PWD`` of the client.
    """
    if not pwd or not pwd.startswith("/") or {".", ".."}.intersection(pwd.split("/")):
        return cwd
    try:
        return pwd if os.path.samefile(pwd, cwd) else cwd  # noqa: PTH121 - these are texts
    except OSError:
        return cwd


def there(cwd: str, settings: Settings, real: str = "") -> str:
    """Return the folder of the server where a program is run.

    Parameters
    ----------
    cwd
        The folder here, see `folder_here`. It may have ``..`` and slashes that mean nothing.
    settings
        ``cwd`` goes before everything; one that is not absolute begins at the folder that would be taken without it.
        Else the longest folder of ``map_dir`` that contains `cwd` is replaced by its counterpart.
    real
        The same folder without symbolic links. It counts where no folder of ``map_dir`` contains `cwd`.

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
    """Return the text of the error for a folder that a node does not have, and what you can do about it.

    Parameters
    ----------
    node, host
        Which node it is.
    folder
        The folder that is missing there, from `there`.
    here
        The folder here.
    settings
        With which it was asked for.
    """
    origin = ""
    if settings.cwd:
        origin = f", where --cd {shlex.quote(settings.cwd)} leads"
    elif folder != here:
        origin = f", to which map_dir leads from {here}"
    quoted = shlex.quote(here)
    return (
        f"node {node} ({host}) has no folder {folder}{origin}. The program was not run. You can give\n"
        f"  --map-dir {quoted}=THERE   if the same files are there in another folder\n"
        "  --cd DIR                to run it in another folder of the server\n"
        "  --send FILE --fetch FILE  to run it in a folder of its own, with these files sent and fetched\n"
        "  --sync                  to send this folder, and fetch what changes in it"
    )


def environment(settings: Settings, here: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the variables that a program gets on the server besides those that it has there.

    ``env_all`` gives all but `SESSION_VARIABLES`, and ``env`` adds to that, the last of one name counting. A ``NAME``
    that is not set here is left out, as by ``SendEnv`` of ssh: a rule for all programs names what some users have. It
    may be a pattern, such as ``OMP_*``. A program on a terminal gets ``TERM``, which describes the terminal here.

    Parameters
    ----------
    settings
        ``env``, ``env_all`` and ``terminal`` count.
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
    """Return a path without dots and slashes that mean nothing."""
    plain = posixpath.normpath(path)
    return plain[1:] if plain.startswith("//") else plain  # which POSIX leaves to the system


def _mapped(folder: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    """Return the counterpart of a folder; ``None``: no pair contains it."""
    fitting = [
        (len(plain), plain, counterpart)
        for here, counterpart in pairs
        if folder == (plain := _plain(here)) or folder.startswith(plain.rstrip("/") + "/")
    ]
    if not fitting:
        return None
    _, plain, counterpart = max(fitting, key=lambda each: each[0])
    return _plain(posixpath.join(counterpart, folder[len(plain) :].lstrip("/")))
