"""The page of a network: it shows the network's servers, and ends with it."""

import json
from urllib.request import urlopen

import pytest

from pconnect.errors import ConfigurationError
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_gone, wait_until


def shown_hosts(url: str) -> list[str]:
    with urlopen(url.replace("/?", "/api/servers?"), timeout=DEADLINE) as answer:
        return [each["server"] for each in json.load(answer)["servers"]]


def test_the_servers_of_a_network(server: Server) -> None:
    with server.connect(2) as net:
        page = net.dashboard()
        assert sum(net.map(abs, [-1, -2, -3])) == 6
        with urlopen(page.url.replace("/?", "/api/statistics?"), timeout=DEADLINE) as answer:
            (shown,) = json.load(answer)["servers"]
        document = shown["document"]
        assert document["samples"]["rows"] and "timeline" in document
        # Sessions of other users are only counted.
        assert {session["user"] for session in document["sessions"]} == {"alice"}
        assert net.dashboard() is page and net.dashboard(proxied="/user/") is not page
        part = net[1:].dashboard()
        assert part is not page and net[1:].dashboard() is part
        part.close()
        again = net[1:].dashboard()
        assert again is not part
        again._process.kill()
        again._process.wait()
        assert net[1:].dashboard() is not again
    wait_gone(page._process.pid)


def test_tables_and_page_have_the_nodes_of_now(two_slots: Server, server: Server) -> None:
    with server.connect(1) as net:
        page, table = net.dashboard(), net.statistics(timeout=DEADLINE)
        net.add(two_slots.named(), timeout=DEADLINE)
        hosts = [server.host, two_slots.host]
        assert [row[0] for row in table.update(timeout=DEADLINE)] == hosts
        assert {row[1] for row in table.workers(timeout=DEADLINE)} == set(hosts)
        wait_until(lambda: shown_hosts(page.url) == hosts, "the page, which asks once a second")
        net.remove(2, grace=0.0)
        assert [row[0] for row in table.update(timeout=DEADLINE)] == hosts[:1]
        assert list(table.documents) == hosts[:1]
        wait_until(lambda: shown_hosts(page.url) == hosts[:1], "the page, which asks once a second")


def test_a_path_that_is_none(server: Server) -> None:
    with server.connect(1) as net:
        for path in ("user/", "/user", "//evil.example/", ""):
            with pytest.raises(ConfigurationError, match="give the path of the Jupyter server"):
                net.dashboard(proxied=path)
