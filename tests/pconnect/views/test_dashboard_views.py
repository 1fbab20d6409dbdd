"""The page of a network: its own servers, while it lives."""

import json
from urllib.request import urlopen

import pytest

from pconnect.errors import ConfigurationError
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_gone


def test_the_servers_of_a_network(server: Server) -> None:
    with server.connect(2) as net:
        page = net.dashboard()
        assert sum(net.map(abs, [-1, -2, -3])) == 6
        with urlopen(page.url.replace("/?", "/api/statistics?"), timeout=DEADLINE) as answer:
            (shown,) = json.load(answer)["servers"]
        document = shown["document"]
        assert document["samples"]["rows"] and "timeline" in document
        # Others' sessions are only counted.
        assert {session["user"] for session in document["sessions"]} == {"alice"}
    wait_gone(page._process.pid)


def test_a_path_that_is_none(server: Server) -> None:
    with server.connect(1) as net:
        for path in ("user/", "/user", "//evil.example/", ""):
            with pytest.raises(ConfigurationError, match="give the path of the Jupyter server"):
                net.dashboard(proxied=path)
