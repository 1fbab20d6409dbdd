"""What belongs to a process and not to one job: after each job it is again as it was before the first.

A row of `_rows` for each kind. Looking costs some millionths of a second for all of them together, and is done after
each job; what has changed is rare, and may cost more. What a job does to modules, to the workspace and to the system
(limits, priority, threads, child processes) stays: it cannot be told from what a later job wants to find, or cannot be
undone. doc/reference/jobs.md says so.

What a module changes when a function or its arguments bring it along is not the job's. It is imported once, and needs
what it adds to ``sys.path`` or to the environment then in all later jobs; so `ProcessState.keep_imported` keeps that.
"""

import decimal
import gc
import os
import signal
import socket
import sys
import warnings
from _locale import LC_ALL
from _locale import setlocale as set_locale  # that of `locale` takes longer to return what there is

# Those of `signal` are wrapped to convert to enumerations and back, which takes much longer.
from _signal import alarm, getsignal, pthread_sigmask
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

import numpy as np

# What programs handle. Others would cost time with each job.
_HANDLED = [int(number) for number in (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE,
    signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF, signal.SIGWINCH,
)]  # fmt: skip
_ENVIRONMENT, _PATH = os.environ, sys.path
_HAS_NUMPY_CONTEXTS = int(np.__version__.partition(".")[0]) >= 2  # else its error state is the process's


def open_text(descriptor: int) -> TextIO:
    """Open standard output or standard error as engines have it."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


class _Row(NamedTuple):
    """One kind of state: its name in errors, a look at it, and how to have it as it was."""

    name: str
    look: Callable[[], Any]
    put: Callable[[Any], object]


class ProcessState:
    """The state of this process as it is now, for `restore`."""

    def __init__(self) -> None:
        # Not its path: it may be moved or removed, also by others, and is the same folder still.
        self._folder = os.open(".", os.O_PATH)
        self._input = os.dup(0)  # `pserver.jobs.job_output` has the other two
        self._keep()

    def _keep(self) -> None:
        self._kept = [(row, _copied(row.look())) for row in _rows()]
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ())
        # Jobs have copies of a context variable, which refer to one object.
        self._decimal = decimal.getcontext().copy()
        self._modules = len(sys.modules)

    def keep_imported(self) -> None:
        """Have things be as they are now, if modules were imported; before a job's function is called."""
        if len(sys.modules) != self._modules:
            self._keep()

    def restore(self) -> None:
        """Have all as it was.

        Raises `RuntimeError` if that is impossible: no other job can run here.
        """
        name = "the current folder"
        try:
            alarm(0)  # first: what it calls may raise
            pthread_sigmask(signal.SIG_SETMASK, self._mask)
            os.fchdir(self._folder)
            os.umask(self._umask)
            os.dup2(self._input, 0)
            for row, kept in self._kept:
                name = row.name
                if row.look() != kept:
                    row.put(kept)
        except Exception as error:
            raise RuntimeError(f"{name} cannot be restored: {error}") from error
        decimal.setcontext(self._decimal.copy())
        self._modules = len(sys.modules)


def _rows() -> list[_Row]:
    rows = [
        # Comparing what is behind `os.environ` takes a hundredth of the time that the decoded items take.
        _Row("the environment", lambda: getattr(os.environ, "_data", None), _put_environment),
        _Row("sys.path", lambda: sys.path, _put_path),
        _Row("sys.argv", lambda: sys.argv, _put_arguments),
        _Row("the standard streams", _streams, _put_streams),
        _Row("the hooks", _hooks, _put_hooks),
        _Row("the warning filters", lambda: warnings.filters, _put_filters),
        _Row("the locale", lambda: set_locale(LC_ALL, None), lambda kept: set_locale(LC_ALL, kept)),
        _Row("the signal handlers", lambda: [getsignal(number) for number in _HANDLED], _put_handlers),
        _Row("the interpreter's settings", _settings, _put_settings),
    ]
    if not _HAS_NUMPY_CONTEXTS:
        rows.append(_Row("numpy's error state", np.geterr, lambda kept: np.seterr(**kept)))
    return rows


def _copied(state: Any) -> Any:
    return state.copy() if isinstance(state, list | dict) else state  # what is changed in place


def _put_environment(kept: dict[bytes, bytes]) -> None:
    os.environ = _ENVIRONMENT  # noqa: B003 - another object may be in its place
    variables = os.environb
    for name in [name for name in variables if name not in kept]:
        del variables[name]
    for name, value in kept.items():
        if variables.get(name) != value:
            variables[name] = value


def _put_path(kept: list[str]) -> None:
    _PATH[:] = kept
    sys.path = _PATH


def _put_arguments(kept: list[str]) -> None:
    sys.argv = kept.copy()


def _hooks() -> tuple[Any, ...]:
    return sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook, warnings.showwarning


def _put_hooks(kept: tuple[Any, ...]) -> None:
    sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook, warnings.showwarning = kept


# How each is read and written. Read in one go: a row for each would take as long again as all the rest.
_SETTINGS: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (sys.gettrace, sys.settrace),
    (sys.getprofile, sys.setprofile),
    (gc.isenabled, lambda kept: gc.enable() if kept else gc.disable()),
    (gc.get_threshold, lambda kept: gc.set_threshold(*kept)),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
]


def _settings() -> list[Any]:
    return [read() for read, _ in _SETTINGS]


def _put_settings(kept: list[Any]) -> None:
    for (read, write), value in zip(_SETTINGS, kept, strict=True):
        if read() != value:
            write(value)


def _streams() -> list[Any]:
    return [sys.stdin, sys.stdout, sys.stderr, sys.stdout.closed, sys.stderr.closed]


def _put_streams(kept: list[Any]) -> None:
    for number in (1, 2):
        if kept[number].closed:
            kept[number] = open_text(number)
    sys.stdin, sys.stdout, sys.stderr, *_ = kept


def _put_filters(kept: list[Any]) -> None:
    warnings.filters[:] = kept  # type: ignore[index]
    with warnings.catch_warnings():  # Python reads the filters anew
        pass


def _put_handlers(kept: list[Any]) -> None:
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    for number, handler in zip(_HANDLED, kept, strict=True):
        if getsignal(number) != handler:
            signal.signal(number, handler)
