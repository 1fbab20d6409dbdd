"""The process of a server's page: its open files, its address and its end, all with one real server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pserver.config.page_options import Address
from pserver.page.address_file import shown_address
from pserver.page.child import main
from pserver.page.serving import listen
from tests.support.served_page import Page
from tests.support.servers import Server, run_server
from tests.support.waiting import wait_gone, wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    os.environ["PCONNECT_PASSWORD"] = "what only clients need"
    with run_server(tmp_path_factory.mktemp("page"), "--status-page=127.0.0.1:0") as server:
        del os.environ["PCONNECT_PASSWORD"]
        yield server


def address(server: Server) -> str:
    folder = next(server.folder.rglob("*.control")).parent
    wait_until(lambda: shown_address(server.status["name"], folder) is not None, "the page")
    return str(shown_address(server.status["name"], folder))


def page_of(server: Server) -> tuple[Page, str]:
    found = re.fullmatch(r"http://127\.0\.0\.1:([0-9]+)/\?token=(\S+)", address(server))
    assert found
    return Page(int(found[1])), found[2]


def child_of(server: Server) -> psutil.Process:
    (child,) = [
        each for each in psutil.Process(server.process.pid).children() if each.name() == "pserver:page"
    ]
    return child


def test_it_shows_its_own_server(server: Server) -> None:
    page, token = page_of(server)
    told = json.loads(page.ask("/api/statistics", x_pserver_token=token).body)["servers"]
    assert [each["document"]["server"]["pid"] for each in told] == [server.process.pid]
    assert page.ask("/api/statistics").status == 401


def test_pserver_status_says_where_and_only_to_the_same_account(server: Server) -> None:
    environment = os.environ | {"PSERVER_RUNTIME_DIR": str(server.folder)}
    command = [sys.executable, "-m", "pserver", "status"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert f"Status page of {server.status['name']}: {address(server)}" in said
    assert "token" not in json.dumps(server.status_now()) and page_of(server)[1] not in server.log


def test_it_has_no_secrets_of_the_server(server: Server) -> None:
    address(server)
    child = child_of(server)
    assert "PCONNECT_PASSWORD" not in child.environ()
    # It has neither a client's socket nor the users' file open.
    listening = [each for each in child.net_connections() if each.status == psutil.CONN_LISTEN]
    assert len(listening) == 1 and listening[0].laddr.ip == "127.0.0.1"
    assert not [file.path for file in child.open_files() if "tpasswd" in file.path]


def test_one_that_dies_is_replaced_and_all_end_with_the_server(server: Server) -> None:
    before = address(server)
    child = child_of(server)
    child.kill()
    wait_gone(child.pid)
    server.wait_for_log("the process of the page has ended: SIGKILL")
    assert address(server) != before
    child = child_of(server)
    server.process.kill()
    wait_gone(child.pid)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with listen(Address(port=0)) as taken:
        port = taken.getsockname()[1]
        with run_server(tmp_path / "second", f"--status-page={port}") as second:
            second.wait_for_log(f"there is no page: the page cannot listen on port {port} (127.0.0.1)")
            assert second.status_now()["name"]  # the server keeps running


def test_it_needs_its_daemon() -> None:
    with pytest.raises(SystemExit):
        main(["--name", "lab"])
