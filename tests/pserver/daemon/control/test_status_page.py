"""The daemon's hold on the process of its page; with real ones in tests/pserver/page/test_child.py."""

import contextlib

import pytest

from pserver.config.server_config import ServerConfig
from pserver.daemon.callback_selector import CallbackSelector
from pserver.daemon.control.status_page import StatusPage
from tests.support.waiting import wait_until


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
            selector.call_ready(0.1)
            return page.time_left() is not None

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
        assert "the page cannot be started" in caplog.text and page.time_left() is not None
