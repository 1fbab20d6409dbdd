"""Run code under accounts other than that of the tests. Only root can do this."""

import ctypes
import os
from collections.abc import Callable

import pytest

NOBODY = 65534
# linux/sched.h, linux/prctl.h, linux/capability.h
_CLONE_NEWNS = 0x20000
_PR_SET_KEEPCAPS = 8
_CAPABILITY_VERSION_3 = 0x20080522
_DAC_READ_SEARCH = 1 << 2
_libc = ctypes.CDLL(None, use_errno=True)
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs two accounts: only root can switch between them"
)


def in_child(user: int, attempt: Callable[[], str]) -> str:
    """Run a function in a child process under another account; return its result, or the error that it raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            take_on(user)
            said = attempt()
        except BaseException as error:  # noqa: BLE001 - the parent gets it
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as stream:
        return stream.read()


def take_on(user: int, *, may_read_all: bool = False) -> None:
    """Switch this process to another account for good.

    `may_read_all`: keep root's right to read every file, because the interpreter may be in a folder that only root can
    read.
    """
    os.setgroups([])
    os.setgid(user)
    if not may_read_all:
        os.setuid(user)
        return
    _check(_libc.prctl(_PR_SET_KEEPCAPS, ctypes.c_ulong(1), 0, 0, 0))
    os.setuid(user)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(_DAC_READ_SEARCH, _DAC_READ_SEARCH)  # effective and permitted
    _check(_libc.capset(header, sets))


def enter_mounts(pid: int) -> None:
    """Enter the mount namespace of another process for good. The calling process must have a single thread."""
    descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    try:
        _check(_libc.setns(descriptor, _CLONE_NEWNS))
    finally:
        os.close(descriptor)


def _check(failed: int) -> None:
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
