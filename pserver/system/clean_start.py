"""What a server does not take over from the program that starts it: signals, descriptors, umask and locale.

A parent may ignore SIGCHLD, so that no exit code could be read; block SIGTERM, so that nobody could stop the server;
leave files and sockets open, which engines would keep for days; or have a locale in which names and text are no UTF-8.
"""

import contextlib
import fcntl
import locale
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

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
    while (
        lowest := os.open(os.devnull, os.O_RDWR)
    ) <= 2:  # else the next socket would become standard output
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
