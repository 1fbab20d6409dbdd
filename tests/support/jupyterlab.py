"""JupyterLab in a headless browser: a notebook as its user sees it, and the file it is saved to."""

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.kernels import DEADLINE, kernel_files
from tests.support.programs import module, program
from tests.support.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAME = "notebook.ipynb"
_MILLISECONDS = 1000 * DEADLINE
# JupyterLab neither contacts the internet nor asks the user about it.
_OPTIONS = (
    "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0",
    "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
    "--ServerApp.jpserver_extensions={'jupyter_server_proxy': True}",
)  # fmt: skip
_SETTINGS = {"@jupyterlab/completer-extension:manager": {"providerTimeout": int(1000 * DEADLINE)}}
_PAGE_CONFIG = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}

_IS_READY = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return session?.isReady && session.session?.kernel?.status === 'idle';
}"""


class Lab:
    """A notebook that is open in JupyterLab."""

    def __init__(self, page: "Page", file: Path) -> None:
        self.page = page
        self._file = file

    @contextlib.contextmanager
    def running(self, command: str) -> Iterator[None]:
        """Run a command of JupyterLab's menus; wait for its end at the end of the block."""
        # Awaiting a promise in the page has no time limit.
        self.page.evaluate(
            "name => {window.ended = false; jupyterapp.commands.execute(name).finally(() => window.ended = true)}",
            command,
        )
        yield
        self.page.wait_for_function("window.ended")

    def running_all(self) -> contextlib.AbstractContextManager[None]:
        """Run all cells, up to one that fails."""
        return self.running("notebook:run-all-cells")

    def completions(self, text: str) -> set[str]:
        """Type a text into a new last cell and return the completions that the Tab key offers."""
        with self.running("notebook:insert-cell-below"):
            pass
        self.page.locator(".jp-Notebook .jp-CodeCell.jp-mod-active .cm-content").click()
        self.page.keyboard.type(text)
        # Until then, the key indents the line.
        self.page.wait_for_selector(".jp-CodeCell.jp-mod-active .jp-mod-completer-enabled")
        offered = self.page.locator(".jp-Completer:visible .jp-Completer-item")
        values: list[str] = []
        for turn in range(int(10 * DEADLINE)):
            # JupyterLab draws a long list in several steps.
            before, values = values, offered.evaluate_all("items => items.map(item => item.dataset.value)")
            if values and values == before:
                break
            # JupyterLab drops late answers of the kernel; a user would press the key again.
            if turn % 50 == 0 and not values:
                self.page.keyboard.press("Tab")
            self.page.wait_for_timeout(100)
        return set(values)

    def saved(self) -> list[dict[str, Any]]:
        """Save the notebook; return the code cells of its file."""
        with self.running("docmanager:save"):
            pass
        import nbformat  # takes two seconds, so not when all tests are collected

        return [cell for cell in nbformat.read(self._file, 4).cells if cell.cell_type == "code"]

    def outputs(self, cell: int) -> list[str]:
        """Return the HTML of a cell's outputs, one piece for each visible output."""
        found: list[str] = self.page.evaluate(
            """k => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')[k]
                .querySelectorAll('.jp-OutputArea-output')]
                .filter(output => output.getBoundingClientRect().height > 0)
                .map(output => output.outerHTML)""",
            cell,
        )
        return found


@contextlib.contextmanager
def open_notebook(folder: Path, server: Server, *cells: str) -> Iterator[Lab]:
    """Open a notebook with some cells in JupyterLab; its user may log in to a server."""
    chromium = program("chromium", "chromium")
    playwright, _ = module("playwright.sync_api"), module("jupyterlab")
    import nbformat

    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": {"name": "ours", "display_name": "ours", "language": "python"}},
    )
    file = folder / "work" / NAME
    file.parent.mkdir(parents=True)
    nbformat.write(notebook, file)
    with (
        kernel_files(folder, server) as (environment, _),
        _run_lab(folder, environment) as address,
        playwright.sync_playwright() as driver,
    ):
        # Chromium's sandbox needs rights that root in a container lacks. This browser opens only pages of this test.
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.set_default_timeout(_MILLISECONDS)
        page.goto(address)
        page.wait_for_function(_IS_READY)  # until then, it asks which kernel to run
        yield Lab(page, file)
        browser.close()


@contextlib.contextmanager
def _run_lab(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run JupyterLab; yield the address of the notebook, with the token."""
    settings = folder / "config" / "labconfig"
    settings.mkdir(parents=True)
    for name, content in (("page_config", _PAGE_CONFIG), ("default_setting_overrides", _SETTINGS)):
        (settings / f"{name}.json").write_text(json.dumps(content))
    token = secrets.token_urlsafe()
    log = folder / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *_OPTIONS],
            cwd=folder / "work",
            env=os.environ | environment | {"JUPYTER_TOKEN": token},
            stdout=out,
            stderr=out,
        )
        try:
            yield f"{_address(process, log)}/lab/tree/{NAME}?token={token}"
        finally:
            process.terminate()
            process.wait(DEADLINE)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"JupyterLab is not running:\n{log.read_text()}")
