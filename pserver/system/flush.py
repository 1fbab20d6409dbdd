"""Flush standard output and standard error, for which Python and C have separate buffers."""

import ctypes
import sys

_libc = ctypes.CDLL(None)
_fflush = _libc.fflush
_fflush.argtypes = [ctypes.c_void_p]
# C's standard error is unbuffered. Flushing all C streams (``NULL``) would be wrong: a thread may be blocked in one of
# them.
_c_stdout = ctypes.c_void_p.in_dll(_libc, "stdout")


def flush_output() -> None:
    """Pass all output of Python and C code so far to the system."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - runs after each command, and `suppress` would take longer than the rest
            stream.flush()
        except (ValueError, OSError, AttributeError):  # the user may have closed or replaced the stream
            pass
    _fflush(_c_stdout)
