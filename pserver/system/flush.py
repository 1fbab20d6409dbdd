"""Standard output and standard error of a process, of which Python and C each have buffers of their own."""

import ctypes
import sys

_libc = ctypes.CDLL(None)
_fflush = _libc.fflush
_fflush.argtypes = [ctypes.c_void_p]
# Its standard error has no buffer. All of its streams, which ``NULL`` would mean, are too many: a thread may be waiting
# in one.
_c_stdout = ctypes.c_void_p.in_dll(_libc, "stdout")


def flush_output() -> None:
    """Have the system take what Python code and C code have printed so far."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - this is done after each command, and `suppress` takes longer than the rest
            stream.flush()
        except (ValueError, OSError, AttributeError):  # the user may have closed or replaced it
            pass
    _fflush(_c_stdout)
