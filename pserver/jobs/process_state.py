"""State that belongs to a process rather than to one job: after each job, it is restored to its value before the first.

`_rows` has a row for each kind of state. Checking all of them takes a few microseconds, and is done after each job.
Changes are rare, so restoring may take longer. Changes that a job makes to modules, to the workspace and to the system
(limits, priority, threads, child processes) stay: a later job may need them, or they cannot be undone.
doc/reference/jobs.md documents this.

Changes made by a module that is imported together with a function or its arguments do not belong to the job. The module
is imported only once, so all later jobs need its additions to ``sys.path`` or to the environment;
`ProcessState.keep_imported` keeps them.
"""

import decimal
import gc
import os
import signal
import socket
import sys
import warnings
from _locale import LC_ALL
from _locale import setlocale as set_locale  # the one in `locale` takes longer to return the current locale

# The functions of `signal` convert to enumerations and back, which takes much longer.
from _signal import alarm, getsignal, pthread_sigmask
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

import numpy as np

# The signals that programs usually handle. Checking further ones would cost time with each job.
_HANDLED = [int(number) for number in (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE,
    signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD, signal.SIGXCPU, signal.SIGVTALRM, signal.SIGPROF, signal.SIGWINCH,
)]  # fmt: skip
_ENVIRONMENT, _PATH = os.environ, sys.path
_HAS_NUMPY_CONTEXTS = int(np.__version__.partition(".")[0]) >= 2  # else it is the process's


def open_text(descriptor: int) -> TextIO:
    """Open standard output or standard error in the form that engines use."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


class _Row(NamedTuple):
    """One kind of state: its name in errors, a function to read it, and a function to restore it."""

    name: str
    look: Callable[[], Any]
    put: Callable[[Any], object]


class ProcessState:
    """The state of this process at creation, for `restore`."""

    def __init__(self) -> None:
        # Not by path: the folder may be moved or removed, even by others, and is still the same folder.
        self._folder = os.open(".", os.O_PATH)
        self._input = os.dup(0)  # `pserver.jobs.job_output` handles the other two
        self._keep()

    def _keep(self) -> None:
        self._kept = [(row, _copied(row.look())) for row in _rows()]
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._mask = pthread_sigmask(signal.SIG_BLOCK, ())
        # Jobs get copies of the context, but a context variable refers to the same object in all copies.
        self._decimal = decimal.getcontext().copy()
        self._modules = len(sys.modules)

    def keep_imported(self) -> None:
        """Keep the current state if modules were imported; called before a job's function."""
        if len(sys.modules) != self._modules:
            self._keep()

    def restore(self) -> None:
        """Restore the recorded state.

        Raises `RuntimeError` if that is impossible; then no further job can run in this process.
        """
        name = "the current folder"
        try:
            alarm(0)  # first: the handler may raise an exception
            pthread_sigmask(signal.SIG_SETMASK, self._mask)
            os.fchdir(self._folder)
            os.umask(self._umask)
            os.dup2(self._input, 0)
            for row, kept in self._kept:
                name = row.name
                if row.look() != kept:
                    row.put(kept)
        except Exception as error:
            raise RuntimeError(f"cannot restore {name}: {error}") from error
        decimal.setcontext(self._decimal.copy())
        self._modules = len(sys.modules)


def _rows() -> list[_Row]:
    rows = [
        # Comparing the underlying data of `os.environ` takes a hundredth of the time of comparing decoded items.
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
    return state.copy() if isinstance(state, list | dict) else state  # these are changed in place


def _put_environment(kept: dict[bytes, bytes]) -> None:
    os.environ = _ENVIRONMENT  # noqa: B003 - the job may have replaced the object
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


# The functions that read and write each setting. They share one row: separate rows would double the time of the check.
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
    with warnings.catch_warnings():  # makes Python reread the filters
        pass


def _put_handlers(kept: list[Any]) -> None:
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    for number, handler in zip(_HANDLED, kept, strict=True):
        if getsignal(number) != handler:
            signal.signal(number, handler)
