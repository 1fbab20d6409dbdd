"""Headless Chromium, the accessibility rules of axe-core, and servers of other origins."""

import contextlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import module, program
from tests.support.waiting import DEADLINE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_AXE = Path(__file__).parent.parent.parent / "build/npm/node_modules/axe-core/axe.min.js"
_AXE_VERSION = "4.14.1"
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desktop": (1440, 1000)}


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator["Browser"]:
    """Run the system's Chromium."""
    path, playwright = program("chromium", "chromium"), module("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        # The sandbox needs rights that root in a container lacks. This browser opens only pages of these tests.
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: "Browser", url: str, size: str = "desktop", **options: Any) -> Iterator["Page"]:
    """Open a page in its own context; fail if its console shows errors at the end of the block."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.set_default_timeout(1000 * DEADLINE)
    wrong: list[str] = []
    page.on(
        "console",
        lambda message: wrong.append(message.text) if message.type in {"error", "warning"} else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    assert wrong == [], wrong


def axe_violations(page: "Page") -> list[str]:
    """Return the faults that axe-core finds in a page, one per line; the context must bypass the page's policy."""
    if not _AXE.exists():
        reason = f"axe-core is missing: npm install --prefix build/npm --no-save axe-core@{_AXE_VERSION}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    page.evaluate(_AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']]}"
        for each in found["violations"]
    ]


@contextlib.contextmanager
def other_origin(html: str) -> Iterator[str]:
    """Serve a page on its own port; yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join(DEADLINE)
        server.server_close()
