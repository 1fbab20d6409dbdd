"""The documentation site: it builds without warnings; you can read and search it offline."""

import fcntl
import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import SIZES, chromium, opened

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DOC = Path(__file__).parent.parent.parent / "doc"
EXAMPLE = "plot_heat_equation"  # takes the least time
OFFLINE = "--disable-background-networking"
PAGES = (
    "index.html", "tutorial.html", "notebook.html", "reference/jobs.html", "reference/api/jobs.html",
    "reference/cli/pserver.html", "reference/settings.html", "protocol.html", "performance.html",
)  # fmt: skip
# With titles, names or blocks that need more room than a phone has.
WIDE = (
    "troubleshooting.html", "contributing.html", "reference/detach.html", "reference/notes.html",
    "reference/api/networks.html", "reference/cli/pshadow.html",
)  # fmt: skip
# A reader's search text for a task, and a page that must be among the results.
SEARCHES = {
    "random numbers": "reference/jobs.html",
    "Network.submit": "reference/api/jobs.html",
    "--max-sessions": "reference/cli/pserver.html",
    "DeadlockError": "reference/api/errors.html",
    "firewalls": "howto/nat.html",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, but run only one example of the gallery; `test_gallery` runs them all."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # if several test processes need the site, the first one builds it
        if not (folder / "built").exists():
            _build(folder)
            (folder / "built").touch()
    return folder / "html"


def _build(folder: Path) -> None:
    options = ["--builder", "html", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--jobs=2"]
    options += ["--define", f"sphinx_gallery_conf.filename_pattern={EXAMPLE}"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            *options,
            "--doctree-dir",
            folder / "doctrees",
            DOC,
            folder / "html",
        ],
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING: " not in done.stderr


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    """Serve the site as ``python -m http.server`` does."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def search(page: "Page", words: str, wanted: str) -> None:
    """Search as a reader does, and wait for a result that links to a page."""
    page.get_by_role("button", name="Search").first.click()
    page.locator("dialog input[type=search]").fill(words)
    page.keyboard.press("Enter")
    page.locator(f"#search-results a[href*='{wanted}']").first.wait_for()
    page.get_by_text("Search finished").wait_for()


def test_search_finds_pages_without_a_server(site: Path) -> None:
    with chromium(OFFLINE) as browser:
        for words, wanted in SEARCHES.items():
            with opened(browser, f"{site.as_uri()}/index.html") as page:
                search(page, words, wanted)
                assert page.locator("#search-results .context").count() == 0


def test_search_has_excerpts_over_http(served: str) -> None:
    with chromium(OFFLINE) as browser:
        # Not for names: for an anchor with a dot, Sphinx shows the page's text instead and logs this to the console.
        for words in ("random numbers", "firewalls"):
            with opened(browser, f"{served}/index.html") as page:
                search(page, words, SEARCHES[words])
                page.locator("#search-results .context").first.wait_for()
                page.wait_for_load_state("networkidle")  # the search fetches excerpts from the result pages


def test_pages_fit_the_screen_and_load_nothing_from_elsewhere(site: Path) -> None:
    with chromium(OFFLINE) as browser:
        for size, (width, _) in SIZES.items():
            with opened(browser, f"{site.as_uri()}/index.html", size) as page:
                asked: list[str] = []
                page.on("request", lambda request, asked=asked: asked.append(request.url))
                for name in PAGES:
                    page.goto(f"{site.as_uri()}/{name}")
                    for scheme in ("light", "dark"):
                        page.emulate_media(color_scheme=scheme)
                        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
                        assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, size)
                assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


# Text that ends to the right of the screen. Tables and blocks of code scroll by themselves.
CUT_OFF = """() => [...document.querySelectorAll("article :is(h1, h2, h3, p, li, dt, img)")].filter(element => {
    if (element.closest("table, pre") || element.querySelector("table, pre")) return false
    const text = document.createRange()
    text.selectNodeContents(element)
    return Math.max(element.getBoundingClientRect().right, text.getBoundingClientRect().right) > innerWidth
}).map(element => element.textContent.trim().slice(0, 80))"""


def test_a_phone_shows_all_text(site: Path) -> None:
    with chromium(OFFLINE) as browser, opened(browser, f"{site.as_uri()}/index.html", "phone") as page:
        for name in (*PAGES, *WIDE):
            page.goto(f"{site.as_uri()}/{name}", wait_until="domcontentloaded")
            assert page.evaluate(CUT_OFF) == [], name


def test_the_notebook_has_its_outputs(site: Path) -> None:
    page = (site / "notebook.html").read_text(encoding="utf-8")
    for shown in ("this node", "3.14", "LinAlgError", "still here", '<img alt="_images/'):
        assert shown in page, shown


def test_an_example_of_the_gallery_has_its_figure(site: Path) -> None:
    page = (site / "auto_gallery" / f"{EXAMPLE}.html").read_text(encoding="utf-8")
    assert f"_images/sphx_glr_{EXAMPLE}_001.png" in page
    assert (site / "_images" / f"sphx_glr_{EXAMPLE}_001.png").exists()


def test_the_pages_have_the_charts(site: Path) -> None:
    page = (site / "performance.html").read_text(encoding="utf-8")
    assert all(f"_images/{name}" in page for name in ("growth.svg", "peers.png", "jobs.png"))


def test_tasks_of_the_start_page_lead_to_sections(site: Path) -> None:
    """Fifteen tasks are each one click away; the build checks the links themselves."""
    index = (DOC / "index.md").read_text(encoding="utf-8").partition("## Common tasks")[2]
    assert index.count("\n- [") >= 15
    assert "Common tasks" in (site / "index.html").read_text(encoding="utf-8")
