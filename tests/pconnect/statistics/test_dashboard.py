"""The process of a network's page, as its client controls it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from urllib.request import urlopen

import pytest

from pconnect.errors import ConfigurationError, ConnectionLostError
from pconnect.statistics.dashboard import Dashboard, notebook_prefix
from tests.support.small_documents import document
from tests.support.waiting import DEADLINE, wait_gone


def ask(_: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    return {"alpha": {"document": document()}, "<b>": {"error": "gone"}}


def statistics(page: Dashboard) -> list[dict[str, Any]]:
    with urlopen(page.url.replace("/?", "/api/statistics?"), timeout=DEADLINE) as answer:
        servers: list[dict[str, Any]] = json.load(answer)["servers"]
    return servers


def test_the_page_shows_the_clients_data_until_it_is_closed() -> None:
    page = Dashboard(ask, None)
    try:
        alpha, beta = statistics(page)
        assert alpha["document"]["totals"] == document()["totals"] and beta["error"] == "gone"
        shown = page._repr_html_()
        assert f'<iframe src="{page.url}"' in shown and repr(page) == f"Dashboard at {page.url}"
    finally:
        page.close()
    wait_gone(page._process.pid)
    page.close()


def test_an_error_of_the_client_is_shown_and_passes() -> None:
    def fails(_: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        if not seen:
            seen.append(True)
            raise ConnectionLostError("the network is closed")
        return ask({})

    seen: list[bool] = []
    page = Dashboard(fails, "/user/alice/")
    try:
        with pytest.raises(OSError, match="502"):
            statistics(page)
        assert statistics(page)[0]["server"] == "alpha"
        port = page.url.rpartition(":")[2].partition("/")[0]
        assert f'src="/user/alice/proxy/{port}/?token=' in page._repr_html_()
    finally:
        page.close()


def test_the_reason_for_a_failed_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/true")
    with pytest.raises(ConfigurationError, match="ended while it was starting"):
        Dashboard(ask, None)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pconnect.statistics.dashboard._PACKAGES", ("no_such_package",))
    with pytest.raises(ConfigurationError, match=r"pip install 'pserver\[page\]'"):
        Dashboard(ask, None)


def test_the_page_ends_with_a_killed_client() -> None:
    code = (
        "import os, signal; from pconnect.statistics.dashboard import Dashboard; page = Dashboard(lambda _: {}, None); "
        "print(page._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=DEADLINE
    )
    wait_gone(int(said.stdout))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_copy_does_not_close_the_page() -> None:
    page = Dashboard(ask, None)
    try:
        page_pid = page._process.pid
        if (copy := os.fork()) == 0:
            page.close()
            os._exit(0)
        os.waitpid(copy, 0)
        assert statistics(page) and page._process.pid == page_pid
    finally:
        page.close()


def test_where_notebooks_show_ports() -> None:
    both = ["ipykernel", "jupyter_server_proxy"]
    assert notebook_prefix({}, both) == "/"
    assert notebook_prefix({"JUPYTERHUB_SERVICE_PREFIX": "/user/a/"}, both) == "/user/a/"
    assert (
        notebook_prefix({}, ["ipykernel"]) is None and notebook_prefix({}, ["jupyter_server_proxy"]) is None
    )
