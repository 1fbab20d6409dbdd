"""What a server does not take over from the program that starts it: signals, descriptors, umask, locale and warnings.

A parent may ignore SIGCHLD, so that no exit code could be read; block SIGTERM, so that nobody could stop the server;
leave files and sockets open, which engines would keep for days; have a locale in which names and text are no UTF-8; or
make errors of all warnings (PYTHONWARNINGS), also of those in libraries that we import.
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

# Python ignores these itself, to make errors of them. SIGHUP: who starts a server by nohup wants it ignored.
_LEFT_ALONE = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGHUP} | {
    number for number in signal.valid_signals() if getattr(number, "name", "") == "SIGXFSZ"
}


def start_cleanly(keep: Collection[int]) -> None:
    """Bring this process into the state that a server expects; `keep` are the descriptors that it was given."""
    reset_signals()
    close_inherited(keep)
    # What is private has a mode of its own. Files of users' code are as the account has it, but never open to writing.
    os.umask(os.umask(0o077) | 0o022)
    use_utf8()
    make_paths_absolute()
    hold_warnings()


def reset_signals() -> None:
    """Take all signals as a process does that nobody has prepared, and block none."""
    for number in signal.valid_signals() - _LEFT_ALONE:
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        elif signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def close_inherited(keep: Collection[int]) -> None:
    """Close what the parent has left open, and have the three standard descriptors.

    What this process has opened itself is closed on exec, as Python opens everything, and so cannot be inherited.
    """
    for descriptor in sorted(int(path.name) for path in Path("/proc/self/fd").iterdir()):
        if descriptor > 2 and descriptor not in keep and _is_inherited(descriptor):
            os.close(descriptor)
    open_standard_streams()


def open_standard_streams() -> None:
    """Open the null device as each standard stream that the parent has closed, or the next socket becomes one."""
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(lowest, True)
    os.close(lowest)


def _is_inherited(descriptor: int) -> bool:
    try:
        return not fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:  # that of the folder itself, which is closed by now
        return False


def use_utf8() -> None:
    """Have a locale of UTF-8, also for what this process starts."""
    variable = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "LC_CTYPE")
    if "UTF8" not in os.environ.get(variable, "").upper().replace("-", ""):
        os.environ["LC_ALL" if variable == "LC_ALL" else "LC_CTYPE"] = "C.UTF-8"
    with contextlib.suppress(locale.Error):  # Python's own UTF-8 mode, in which sessions run, needs none
        locale.setlocale(locale.LC_CTYPE, "")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def make_paths_absolute() -> None:
    """Have what this process starts find its modules at the same places, in whatever folder it runs."""
    path = os.environ.get("PYTHONPATH")
    if path:
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))


# Not `catch_warnings`, which would take away the filters, too, that libraries set while we import them. The pattern
# makes an entry that nobody else has.
_HELD = r"(?s:.*)"


def hold_warnings() -> None:
    """Ignore all warnings from now on: they are for those who change the code, and not for who runs a server."""
    warnings.filterwarnings("ignore", message=_HELD)


def give_warnings_back() -> None:
    """Treat warnings again as the environment says: for the user's code."""
    filters = cast("list[Any]", warnings.filters)
    filters[:] = [each for each in filters if getattr(each[1], "pattern", "") != _HELD]
    warnings.simplefilter("default", append=True)  # as it is without; it has Python read the filters anew
