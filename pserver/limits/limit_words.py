"""Texts about limits for users: which limit was reached, and who set it. No input or output."""

import errno
import signal

from pserver.config.limit_options import SessionLimits
from pserver.config.option import duration_text, size_text


def set_by(option: str, value: str) -> str:
    """Return the text that says who has set a limit.

    Examples
    --------
    >>> set_by("--session-cpu", "60")
    "the server's administrator has set --session-cpu 60"
    """
    return f"the server's administrator has set {option} {value}"


def exit_words(code: int | None, limits: SessionLimits, *, was_out_of_memory: bool = False) -> str:
    """Return which limit ended a process, in parentheses after a space; ``""`` if none did.

    `was_out_of_memory`: whether the kernel has recently killed a process of the session for lack of memory.

    Examples
    --------
    >>> exit_words(-24, SessionLimits(cpu=60.0))
    " (it used 60 s of processor time; the server's administrator has set --session-cpu 60)"
    """
    if code == -signal.SIGXCPU and limits.cpu:
        used = f"it used {limits.cpu:g} s of processor time"
        return f" ({used}; {set_by('--session-cpu', duration_text(limits.cpu))})"
    if code == -signal.SIGKILL and was_out_of_memory and limits.memory:
        size = size_text(limits.memory)
        used = f"the kernel killed it because the session's processes together exceeded {size} of memory"
        return f" ({used}; {set_by('--session-memory', size)})"
    return ""


def hint(error: BaseException, limits: SessionLimits, *, is_job: bool = False) -> str:
    """Return which limit may have caused an error of the user's code; ``""`` if none.

    Examples
    --------
    >>> hint(MemoryError(), SessionLimits(memory=2**31))
    "each process of a session may have 2g of memory: the server's administrator has set --session-memory 2g"
    >>> hint(MemoryError(), SessionLimits())
    ''
    """
    if isinstance(error, MemoryError):
        return _memory_hint(limits, is_job=is_job)
    number = error.errno if isinstance(error, OSError) else 0
    if number == errno.EMFILE and limits.files:
        what = f"each process of a session may have {limits.files} files open"
        return f"{what}: {set_by('--session-files', str(limits.files))}"
    is_thread = isinstance(error, RuntimeError) and "start new thread" in str(error)
    if (is_thread or (number == errno.EAGAIN and isinstance(error, BlockingIOError))) and limits.processes:
        whose = "a session" if limits.cgroup else "the account, including everything that runs under it,"
        what = f"{whose} may have {limits.processes} processes and threads"
        return f"{what}: {set_by('--session-processes', str(limits.processes))}"
    return ""


def _memory_hint(limits: SessionLimits, *, is_job: bool) -> str:
    hints = []
    if is_job and limits.job_memory:
        size = size_text(limits.job_memory)
        hints.append(
            f"a worker may have {size} more memory than at its start: {set_by('--job-memory', size)}"
        )
    if limits.memory:
        size = size_text(limits.memory)
        hints.append(
            f"each process of a session may have {size} of memory: {set_by('--session-memory', size)}"
        )
    return "; ".join(hints)


def add_hint(error: BaseException, limits: SessionLimits, *, is_job: bool = False) -> None:
    """Add the result of `hint` to an error as a note."""
    if text := hint(error, limits, is_job=is_job):
        error.add_note(text)
