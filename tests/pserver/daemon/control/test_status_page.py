"""The daemon's control of the page's process; tests/pserver/page/test_child.py has tests with real processes."""

import contextlib
import subprocess

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.callback_selector import CallbackSelector
from pserver.daemon.control.status_page import StatusPage
from tests.support.waiting import DEADLINE, wait_until


def test_without_the_setting_there_is_nothing_to_do() -> None:
    with CallbackSelector() as selector, contextlib.ExitStack() as stack:
        page = StatusPage(ServerConfig(allow_root=True), selector, stack)
        page.step()
        assert page.time_left() is None and not selector.get_map()


def test_one_that_cannot_begin_is_tried_again_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with CallbackSelector() as selector, contextlib.ExitStack() as stack:
        page = StatusPage(ServerConfig(allow_root=True, status_page=""), selector, stack)
        page.step()

        def has_ended() -> bool:
            selector.call_ready(0.02)
            page.step()
            return "has ended" in caplog.text

        wait_until(has_ended, "its end")
        left = page.time_left()
        assert left is not None and 0 < left <= 1
        assert "the process of the page has ended: exit status 1" in caplog.text
        page.close()
        assert page.time_left() is None


def test_where_there_is_no_program_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with CallbackSelector() as selector, contextlib.ExitStack() as stack:
        page = StatusPage(ServerConfig(allow_root=True, status_page=""), selector, stack)
        page.step()
        assert "cannot start the status page" in caplog.text and page.time_left() is not None


class Undying:
    """A process that does not end when it is killed, like a process that hangs in the kernel."""

    pid = 4711

    def __init__(self) -> None:
        self.killed = 0
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        """Do nothing."""

    def kill(self) -> None:
        self.killed += 1

    def wait(self, timeout: float | None = None) -> int:
        assert timeout is not None, "the daemon waits forever"
        raise subprocess.TimeoutExpired("page", timeout)


def test_the_daemon_does_not_wait_for_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with CallbackSelector() as selector, contextlib.ExitStack() as stack:
        page = StatusPage(ServerConfig(allow_root=True, status_page=""), selector, stack)
        page.step()
        assert page._process is not None
        page._process.wait(DEADLINE)
        page._process = undying = Undying()  # type: ignore[assignment]
        wait_until(lambda: (selector.call_ready(0.02), page.step(), bool(undying.killed))[2], "its end")  # type: ignore[func-returns-value]
        assert "has ended" not in caplog.text and page.time_left() is not None
        undying.code = -9
        wait_until(lambda: (page.step(), "SIGKILL" in caplog.text)[1], "another look")  # type: ignore[func-returns-value]
        page._process = undying = Undying()  # type: ignore[assignment]
        page.close()
        assert undying.killed and "does not end" in caplog.text
