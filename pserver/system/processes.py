"""Processes: their memory, their limits, and signals that tie their lifetimes together, by prctl(2)."""

import contextlib
import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from srp_tools.errors import ConfigurationError
from srp_tools.printable import printable_name

# Enough for a session with one node, which needs 40.
_LEAST_DESCRIPTORS = 64
DAEMON = "daemon"  #: the role of a server's daemon for `name_process`, by which `own_daemons` finds it
_MAX_PID = 2**22  # PID_MAX_LIMIT in proc_sys_kernel(5)


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process in bytes, or None if it has exited."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):  # it has exited, or this process has no descriptor left
        return None


def start_ticks(pid: int) -> int | None:
    """Return the start time of a process, in ticks since the boot; ``None`` if there is no such process.

    No two processes have the same process id and start time.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc_pid_stat(5): field 22. Field 2 is the program's name in brackets, which may contain anything.
    return int(text.rpartition(")")[2].split()[19])


def own_daemons() -> list[int]:
    """Return the process ids of this account's daemons in ascending order, except for those in other containers.

    Daemons are recognised by their names, see `name_process`: other processes of this account may also match.
    """
    return [
        pid
        for pid in sorted(psutil.pids())
        if _name(pid) == f"pserver:{DAEMON}" and all(_is_shared(pid, kind) for kind in ("pid", "net"))
    ]


def _name(pid: int) -> str:
    """Return the name of a process of this account as shown by `ps -e`; empty for other and exited processes.

    Compares the real account: root owns the folder in /proc of a set-user-ID program, such as mount(8), even if another
    account has started it through a link of any name.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return ""
    facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return facts.get("Name", "") if facts.get("Uid", "").split()[:1] == [str(os.geteuid())] else ""


def _is_shared(pid: int, kind: str) -> bool:
    """Whether a process shares a namespace with this one, see namespaces(7)."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").samefile(f"/proc/self/ns/{kind}")
    except OSError:
        return False


def real_user(pid: int) -> int | None:
    """Return the real user id of a process, or None if it has exited."""
    try:
        return int(psutil.Process(pid).uids().real)
    except (psutil.Error, OSError):
        return None


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal; one that is traced by a debugger does not count."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except (psutil.Error, OSError):  # it has exited, or this process has no descriptor left
        return False


def descends_from(pid: int, ancestor: int) -> bool:
    """Whether a process is a child of another one, or a child of such a child, and so on; reaped processes are not.

    Raises `OSError` if this process has no descriptor left.
    """
    if not 0 < pid <= _MAX_PID:
        return False
    try:
        return any(parent.pid == ancestor for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False


def descendants() -> set[int]:
    """Return the process ids of all descendants of this process."""
    return {each.pid for each in psutil.Process().children(recursive=True)}


def await_ends(pidfds: Iterable[int], seconds: float) -> set[int]:
    """Wait until processes have exited, or `seconds` have passed; return the pidfds of those still running."""
    deadline = time.monotonic() + seconds
    living = set(pidfds)
    poll = select.poll()
    for pidfd in living:
        poll.register(pidfd, select.POLLIN)
    while living and (ended := poll.poll(max(0.0, deadline - time.monotonic()) * 1000)):
        for pidfd, _ in ended:
            poll.unregister(pidfd)
            living.discard(pidfd)
    return living


def describe_exit(code: int | None) -> str:
    """Describe how a process ended.

    Examples
    --------
    >>> describe_exit(3), describe_exit(-9)
    ('exit status 3', 'SIGKILL')
    """
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"


def kill_group(pid: int) -> None:
    """Kill the process group of an unreaped process, if it leads one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_with_group(pid: int) -> None:
    """Kill an unreaped process and its process group, if they are running."""
    kill_group(pid)  # first: until the process leads a group, its children are in its parent's group
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_with_descendants(pid: int, pidfd: int) -> None:
    """Kill a process and all its descendants, if they are running; `pidfd`: of the process."""
    found = []
    with contextlib.suppress(psutil.Error):  # an unreaped process keeps its process id
        found = psutil.Process(pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for each in found:
        with contextlib.suppress(psutil.Error):
            each.kill()


def address_space_bytes() -> int:
    """Return the size of this process's address space, which ``RLIMIT_AS`` limits."""
    return int(psutil.Process().memory_info().vms)


def private_bytes() -> int:
    """Return the size of this process's private memory, which ``RLIMIT_DATA`` limits."""
    return int(psutil.Process().memory_info().data)


def available_memory() -> int:
    """Return the memory that is available to programs on this machine, in bytes."""
    return int(psutil.virtual_memory().available)


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise this process's limit of open files as far as possible; return the old limits, for `set_descriptor_limit`.

    The usual limit of 1024 protects programs that use select(2), such as a user's may be. A node needs about twenty.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_descriptor_limit((before[1], before[1]))
    return before


def descriptor_limit() -> int:
    """Return how many descriptors this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def check_descriptor_limit() -> None:
    """Raise `ConfigurationError` if the limit of open files is too low for logins."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < _LEAST_DESCRIPTORS:
        raise ConfigurationError(
            f"this process may open only {hard} files, but a server needs at least {_LEAST_DESCRIPTORS}; raise the "
            "limit (ulimit -Hn, or LimitNOFILE= of a systemd unit)"
        )


def limit_descriptors(count: int) -> None:
    """Limit the open files of this process and its children to `count`, or to its hard limit if that is lower."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    set_descriptor_limit((min(count, hard) if hard != resource.RLIM_INFINITY else count, hard))


def set_descriptor_limit(limits: tuple[int, int]) -> None:
    """Set the soft and the hard limit of open files of this process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def interrupt_main_thread(pid: int, pidfd: int) -> None:
    """Send SIGINT to the main thread of a process that runs Python, not to any other thread.

    A thread of a numerical library may receive a signal that is sent to the whole process: a starting thread takes
    pending signals. Python 3.11 then delays its handler until something else happens, which a loop may never permit.

    Raises `ProcessLookupError` if the process has exited.
    """
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGINT, None, _PIDFD_SIGNAL_THREAD)
        return
    except ProcessLookupError:
        raise
    except OSError:  # before Linux 6.9
        signal.pidfd_send_signal(pidfd, 0)  # it has not been reaped, so it still has its process id
    if _libc.tgkill(pid, pid, signal.SIGINT):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_PIDFD_SIGNAL_THREAD = 1  # linux/pidfd.h
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def name_process(role: str, *, of_session: bool = False) -> None:
    """Make ``ps -e``, ``top`` and ``pstree`` show this process as ``pserver:ROLE``; call it in the main thread.

    ``ps aux`` shows ``pserver: ROLE``, until `set_title` sets another text; `of_session`: append the role to the title
    of the session that this process was forked from.
    """
    session = own_title()
    set_title(f"{session} {role}" if of_session and session.startswith("session ") else role)
    name = ctypes.create_string_buffer(f"pserver:{role}".encode())  # the system keeps 15 bytes
    with contextlib.suppress(OSError):  # may be forbidden, but nothing depends on it
        _prctl(_PR_SET_NAME, ctypes.addressof(name))


# The system reads the command line of a process from its memory, at the addresses in proc_pid_stat(5). A process can
# therefore overwrite it. A forked process has its own copy of that memory. If the last byte is not zero, the system
# shows the text up to the first zero. The environment follows in memory and must not change, so the title may be as
# long as the original command line. The package setproctitle makes more room by moving the environment, supports many
# systems, and must be compiled; PR_SET_MM is for root alone.
_TITLE = "pserver: "
_ARGUMENTS_AT = 45  # fields after the name in brackets: field 48 of proc_pid_stat(5), the start; then the end
_MAX_USER = 40  # characters of a user's name, so that the text after it stays visible


def set_title(text: str) -> None:
    """Make ``ps aux`` show a text for this process, as far as there is room; escape unprintable characters."""
    start, end = _command_line()
    room = end - start - 2  # for a terminating zero, and a last byte that is not zero
    if room > 0:
        title = f"{_TITLE}{printable_name(text)}".encode()[:room]
        ctypes.memmove(start, title.ljust(room + 1, b"\0") + b" ", end - start)


def own_title() -> str:
    """Return the title that this process, or the process it was forked from, has set; empty if there is none."""
    start, end = _command_line()
    told = ctypes.string_at(start, end - start).partition(b"\0")[0].decode(errors="replace") if start else ""
    return told.removeprefix(_TITLE) if told.startswith(_TITLE) else ""


def user_in_title(user: str) -> str:
    """Return a user's name, shortened for a title."""
    return user if len(user) <= _MAX_USER else user[: _MAX_USER - 1] + "…"


def _command_line() -> tuple[int, int]:
    """Return the start and end of the command line in memory; an empty range if the system does not report them."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/stat").read_text(errors="replace")
        fields = text.rpartition(")")[2].split()
        return int(fields[_ARGUMENTS_AT]), int(fields[_ARGUMENTS_AT + 1])
    return 0, 0


def adopt_orphans() -> None:
    """Become the parent of all descendants of this process whose own parent exits."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def go_on_after_parent() -> None:
    """Have the system resume this process if it is stopped (SIGSTOP) when its current parent exits."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def die_with_parent() -> None:
    """Have the system kill this process when its current parent exits; not for a parent that is about to exit."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_dumpable(is_dumpable: bool) -> None:
    """Set whether other processes of this account may read and change the memory of this one."""
    _prctl(_PR_SET_DUMPABLE, int(is_dumpable))


def deny_new_privileges() -> None:
    """Prevent programs that this process executes, such as sudo, from gaining privileges."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
