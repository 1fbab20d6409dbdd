"""Messages about limits that were reached."""

import errno
import signal

import pytest

from pserver.config.limit_options import SessionLimits
from pserver.limits.limit_words import add_hint, exit_words, hint

ALL = SessionLimits(memory=2**29, cpu=90.0, processes=50, files=100, job_memory=2**28)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("Unable to allocate"), "may have 512m of memory: the server's .* --session-memory 512m"),
        (OSError(errno.EMFILE, "Too many open files"), "may have 100 files open: .* has set --session-files 100"),
        (BlockingIOError(errno.EAGAIN, "unavailable"), "the account, .* may have 50 .* 50"),
        (RuntimeError("can't start new thread"), "--session-processes 50"),
    ],
)  # fmt: skip
def test_an_error_that_a_limit_may_have_caused_names_it(error: BaseException, said: str) -> None:
    add_hint(error, ALL)
    (note,) = error.__notes__
    assert pytest.raises(AssertionError, match=said).matches(AssertionError(note))
    assert hint(error, SessionLimits()) == ""


def test_in_a_cgroup_processes_count_for_the_session() -> None:
    error = BlockingIOError(errno.EAGAIN, "unavailable")
    assert hint(error, SessionLimits(processes=50, cgroup="/x")).startswith("a session may have 50 processes")


def test_a_job_has_a_limit_of_its_own() -> None:
    assert "--job-memory" not in hint(MemoryError(), ALL)
    said = hint(MemoryError(), ALL, is_job=True)
    assert "has set --job-memory 256m; each process" in said
    assert "--session-memory 512m" in said


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), RuntimeError("x"), OSError("x"), OSError(errno.ENOENT, "x"), KeyboardInterrupt()],
)
def test_any_other_error_stays_as_it_is(error: BaseException) -> None:
    add_hint(error, ALL, is_job=True)
    assert not hasattr(error, "__notes__")


def test_an_end_by_a_limit_has_its_reason() -> None:
    assert exit_words(-signal.SIGXCPU, ALL) == (
        " (it used 90 s of processor time; the server's administrator has set --session-cpu 90)"
    )
    assert "together exceeded 512m of memory; the server's" in exit_words(
        -signal.SIGKILL, ALL, was_out_of_memory=True
    )
    for code in (0, 3, None, -signal.SIGKILL, -signal.SIGSEGV):
        assert exit_words(code, ALL) == ""
    assert exit_words(-signal.SIGXCPU, SessionLimits()) == ""
