"""Reset the state that a server would inherit from its parent: signals, descriptors, umask, locale and warnings.

A parent may ignore SIGCHLD, which makes exit codes unreadable; block SIGTERM, which makes the server unstoppable; leave
files and sockets open, which engines would keep for days; set a locale without UTF-8 for names and text; or turn all
warnings into errors (PYTHONWARNINGS), including those in imported libraries.
"""

import contextlib
import fcntl
import locale
import os
import signal
import sys
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

# Python itself ignores some signals to raise errors instead. SIGHUP: a server started with nohup should ignore it.
_LEFT_ALONE = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGHUP} | {
    number for number in signal.valid_signals() if getattr(number, "name", "") == "SIGXFSZ"
}


def start_cleanly(keep: Collection[int]) -> None:
    """Bring this process into the state that a server expects; `keep`: the descriptors that it was given."""
    reset_signals()
    close_inherited(keep)
    # Private files have a mode of their own. Files of users' code get the account's umask, but only owners can write.
    os.umask(os.umask(0o077) | 0o022)
    use_utf8()
    make_paths_absolute()
    hold_warnings()


def reset_signals() -> None:
    """Restore the default action of all signals, and unblock them."""
    for number in signal.valid_signals() - _LEFT_ALONE:
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        elif signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_inherited(keep: Collection[int]) -> None:
    """Close descriptors inherited from the parent, and make sure that the three standard streams exist.

    Descriptors opened by this process itself are close-on-exec, like everything that Python opens, so they are kept.
    """
    for descriptor in sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()):
        if descriptor > 2 and descriptor not in keep and _is_inherited(descriptor):
            os.close(descriptor)
    open_standard_streams()


def open_standard_streams() -> None:
    """Open the null device for each closed standard stream; otherwise the next socket would take its number."""
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(lowest, True)
    os.close(lowest)


def _is_inherited(descriptor: int) -> bool:
    try:
        return not fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:  # the descriptor of the folder itself, which is closed by now
        return False


def use_utf8() -> None:
    """Set a UTF-8 locale for this process and the programs that it starts."""
    variable = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "LC_CTYPE")
    if "UTF8" not in os.environ.get(variable, "").upper().replace("-", ""):
        os.environ["LC_ALL" if variable == "LC_ALL" else "LC_CTYPE"] = "C.UTF-8"
    with contextlib.suppress(locale.Error):  # sessions run in Python's own UTF-8 mode, which needs no locale
        locale.setlocale(locale.LC_CTYPE, "")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def make_paths_absolute() -> None:
    """Make module paths absolute, so that programs started in other folders find the same modules."""
    path = os.environ.get("PYTHONPATH")
    if path:
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))


# `catch_warnings` would also discard filters that libraries set during their import. The unusual pattern makes the
# entry unique.
_HELD = r"(?s:.*)"


def hold_warnings() -> None:
    """Ignore all warnings from now on: they are meant for developers of the code, not for operators of a server."""
    warnings.filterwarnings("ignore", message=_HELD)


def give_warnings_back() -> None:
    """Treat warnings as the environment says again, for the user's code."""
    filters = cast("list[Any]", warnings.filters)
    filters[:] = [each for each in filters if getattr(each[1], "pattern", "") != _HELD]
    warnings.simplefilter("default", append=True)  # Python's own default; makes Python reread the filters
