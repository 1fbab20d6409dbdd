"""Processes: their memory, their limits, and how the life of one is tied to that of others, by prctl(2)."""

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

# 40 are enough for a session with one node.
_LEAST_DESCRIPTORS = 64
DAEMON = "daemon"  #: the role of the process by which a server is found, for `name_process`
_MAX_PID = 2**22  # PID_MAX_LIMIT in proc_sys_kernel(5)


def resident_bytes(pid: int) -> int | None:
    """Return how much memory a process occupies, or None if it has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError):  # it has ended, or this process has no room for a descriptor
        return None


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did; ``None`` if there is no such process.

    No two processes have the same number and the same time.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc_pid_stat(5): field 22. The second is the program's name in brackets and may contain anything.
    return int(text.rpartition(")")[2].split()[19])


def own_daemons() -> list[int]:
    """Return the process numbers of the daemons of this account, by number, but for those in other containers.

    A daemon is known by its name, see `name_process`: this may find other processes, but no other account's.
    """
    return [
        pid
        for pid in sorted(psutil.pids())
        if _name(pid) == f"pserver:{DAEMON}" and all(_is_shared(pid, kind) for kind in ("pid", "net"))
    ]


def _name(pid: int) -> str:
    """Return what `ps -e` calls a process of this account; empty for others, and for one that has ended.

    By its real account: the owner of its folder in /proc is root also for a program with the set-user-ID bit, such as
    mount(8), which another account has started by the name of a link.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return ""
    facts = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    return facts.get("Name", "") if facts.get("Uid", "").split()[:1] == [str(os.geteuid())] else ""


def _is_shared(pid: int, kind: str) -> bool:
    """Whether a process has a namespace in common with this one, see namespaces(7)."""
    try:
        return Path(f"/proc/{pid}/ns/{kind}").samefile(f"/proc/self/ns/{kind}")
    except OSError:
        return False


def real_user(pid: int) -> int | None:
    """Return the number of the account of a process, or None if it has ended."""
    try:
        return int(psutil.Process(pid).uids().real)
    except (psutil.Error, OSError):
        return None


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal; one that a debugger holds was not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except (psutil.Error, OSError):  # as above
        return False


def descends_from(pid: int, ancestor: int) -> bool:
    """Whether a process is a child of another one, or of such a child, and so on; one that was reaped is not.

    Raises `OSError` if this process has no room for a descriptor.
    """
    if not 0 < pid <= _MAX_PID:
        return False
    try:
        return any(parent.pid == ancestor for parent in psutil.Process(pid).parents())
    except psutil.Error:
        return False


def descendants() -> set[int]:
    """Return the process numbers of the children of this process, of theirs, and so on."""
    return {each.pid for each in psutil.Process().children(recursive=True)}


def await_ends(pidfds: Iterable[int], seconds: float) -> set[int]:
    """Wait until processes have ended, or some seconds have passed; return the descriptors of those that live."""
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
    """Return how a process ended in words.

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
    """Kill the group of a process that was not reaped, if it leads one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_with_group(pid: int) -> None:
    """Kill a process that was not reaped, and its group, if they live."""
    kill_group(pid)  # first: before it has a group of its own, what it has started is in its parent's
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_with_descendants(pid: int, pidfd: int) -> None:
    """Kill a process, and all that it and its children have started, if they live; `pidfd` stands for it."""
    found = []
    with contextlib.suppress(psutil.Error):  # while it was not reaped, its number is its own
        found = psutil.Process(pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for each in found:
        with contextlib.suppress(psutil.Error):
            each.kill()


def address_space_bytes() -> int:
    """Return the size of this process's address space, which ``RLIMIT_AS`` bounds."""
    return int(psutil.Process().memory_info().vms)


def private_bytes() -> int:
    """Return how much memory this process has of its own, which ``RLIMIT_DATA`` bounds."""
    return int(psutil.Process().memory_info().data)


def available_memory() -> int:
    """Return how many bytes of memory programs can still get on this machine."""
    return int(psutil.virtual_memory().available)


def raise_descriptor_limit() -> tuple[int, int]:
    """Let this process have as many descriptors as it may; return the limits from before, for `set_descriptor_limit`.

    The usual limit of 1024 is for programs that use select(2), such as a user's may be. We need some twenty for a node.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    set_descriptor_limit((before[1], before[1]))
    return before


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def check_descriptor_limit() -> None:
    """Refuse a limit of descriptors under which nobody could log in.

    Raises `ConfigurationError`.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < _LEAST_DESCRIPTORS:
        raise ConfigurationError(
            f"this process may have only {hard} open files, and a server needs {_LEAST_DESCRIPTORS} or more; raise the "
            "limit (ulimit -Hn, or LimitNOFILE= of a systemd unit)"
        )


def limit_descriptors(count: int) -> None:
    """Let this process, and those that it starts, have so many descriptors, if it may have as many at all."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    set_descriptor_limit((min(count, hard) if hard != resource.RLIM_INFINITY else count, hard))


def set_descriptor_limit(limits: tuple[int, int]) -> None:
    """Set how many descriptors this process may have: the soft and the hard limit."""
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def interrupt_main_thread(pid: int, pidfd: int) -> None:
    """Send SIGINT to the main thread of a process that runs Python, and to no other of its threads.

    A signal for a whole process may be taken by a thread that a numerical library has started: one that begins takes
    what waits. Python 3.11 then does not call its handler before something else happens, which a loop may never let.

    Raises `ProcessLookupError` if it has ended.
    """
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGINT, None, _PIDFD_SIGNAL_THREAD)
        return
    except ProcessLookupError:
        raise
    except OSError:  # before Linux 6.9
        signal.pidfd_send_signal(pidfd, 0)  # it has not been reaped: its number is still its own
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
    """Have ``ps -e``, ``top`` and ``pstree`` call this process ``pserver:ROLE``; for its main thread.

    ``ps aux`` shows ``pserver: ROLE``, until `set_title` says more; `of_session`: behind the title of the process of a
    session from which it was forked.
    """
    session = own_title()
    set_title(f"{session} {role}" if of_session and session.startswith("session ") else role)
    name = ctypes.create_string_buffer(f"pserver:{role}".encode())  # the system takes 15 bytes of it
    with contextlib.suppress(OSError):  # where something forbids it, nothing depends on it
        _prctl(_PR_SET_NAME, ctypes.addressof(name))


# The system reads the command line of a process from its memory, from where proc_pid_stat(5) says. So a process may
# write something else there. One that was forked has a copy of that memory, and what it writes there is for itself
# alone. Where the last byte is not zero, the system takes what comes before the first zero. The environment lies behind
# and stays as it is, so there is room for as much as the command line had at the start. The package setproctitle moves
# the environment away for more, does this for many systems, and has to be compiled; PR_SET_MM is for root alone.
_TITLE = "pserver: "
_ARGUMENTS_AT = 45  # behind the name in brackets: field 48 of proc_pid_stat(5), the start, then the end
_MAX_USER = 40  # characters of a user's name: what comes behind it must be seen, too


def set_title(text: str) -> None:
    """Have ``ps aux`` show a text for this process, as far as there is room; what is not printable is escaped."""
    start, end = _command_line()
    room = end - start - 2  # a zero ends it, and the last byte is not zero
    if room > 0:
        title = f"{_TITLE}{printable_name(text)}".encode()[:room]
        ctypes.memmove(start, title.ljust(room + 1, b"\0") + b" ", end - start)


def own_title() -> str:
    """Return the text that this process, or the one from which it was forked, has set; empty if none has."""
    start, end = _command_line()
    told = ctypes.string_at(start, end - start).partition(b"\0")[0].decode(errors="replace") if start else ""
    return told.removeprefix(_TITLE) if told.startswith(_TITLE) else ""


def user_in_title(user: str) -> str:
    """Return a user's name for a title."""
    return user if len(user) <= _MAX_USER else user[: _MAX_USER - 1] + "…"


def _command_line() -> tuple[int, int]:
    """Return from where to where it is in memory; nowhere, if the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = Path("/proc/self/stat").read_text(errors="replace")
        fields = text.rpartition(")")[2].split()
        return int(fields[_ARGUMENTS_AT]), int(fields[_ARGUMENTS_AT + 1])
    return 0, 0


def adopt_orphans() -> None:
    """Become the parent of all descendants of this process whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def go_on_after_parent() -> None:
    """Have the system continue this process, should it be stopped (SIGSTOP), when its present parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def die_with_parent() -> None:
    """Have the system kill this process when its present parent ends; not for one whose parent is about to."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_dumpable(is_dumpable: bool) -> None:
    """Say whether other processes of this account may read and change the memory of this one."""
    _prctl(_PR_SET_DUMPABLE, int(is_dumpable))


def deny_new_privileges() -> None:
    """Have no program that this process executes get more rights than it has, such as sudo."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
