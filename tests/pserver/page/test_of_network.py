"""The page of a client's network: the answers that it accepts, and that it exits with the client."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

import pytest

from pserver.page import of_network
from pserver.page.of_network import FromClient, read_answer, show
from srp_tools.errors import ConfigurationError
from tests.support.small_documents import document
from tests.support.waiting import DEADLINE


def test_answers() -> None:
    up, down = read_answer({"ok": {"alpha": {"document": document()}, "beta": {"error": "gone"}}})
    assert up.key == "alpha" and up.document == document()
    assert down.document is None and down.error == "gone"
    for bad, why in (({"error": "no"}, "no"), ({}, "invalid answer"), ([], "invalid answer")):
        with pytest.raises(ConfigurationError, match=why):
            read_answer(bad)


def with_client(check: Callable[[FromClient, socket.socket], Awaitable[None]]) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            await check(FromClient(reader, writer), theirs)
            writer.close()

    asyncio.run(run())


def test_the_client_is_asked_and_answers() -> None:
    async def check(source: FromClient, client: socket.socket) -> None:
        client.sendall(json.dumps({"ok": {"alpha": {"document": document()}}}).encode() + b"\n")
        (report,) = await source.reports({"alpha": 5.0})
        assert report.key == "alpha" and json.loads(client.recv(1000)) == {"alpha": 5.0}
        with pytest.raises(ConfigurationError, match="cannot end sessions"):
            await source.stop("alpha", 1)

    with_client(check)


def test_a_client_that_pauses_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(source: FromClient, client: socket.socket) -> None:
        def answer(name: str) -> None:
            client.sendall(json.dumps({"ok": {name: {"document": document()}}}).encode() + b"\n")

        monkeypatch.setattr(of_network, "_ANSWER_SECONDS", 0.01)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="is not answering at the moment"):
                await source.reports({"alpha": 1.0})
        monkeypatch.setattr(of_network, "_ANSWER_SECONDS", DEADLINE)
        assert json.loads(client.recv(1000)) == {"alpha": 1.0}  # this request and no other
        answer("late")
        answer("newest")
        (report,) = await source.reports({"alpha": 2.0})
        assert report.key == "newest" and not source.has_ended.is_set()
        assert json.loads(client.recv(1000)) == {"alpha": 2.0}

    with_client(check)


def test_without_the_client_there_is_nothing() -> None:
    async def check(source: FromClient, client: socket.socket) -> None:
        client.close()
        with pytest.raises(ConfigurationError, match="no longer answers"):
            await source.reports({})
        assert source.has_ended.is_set()

    with_client(check)


def test_it_ends_when_the_client_does() -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        showing = asyncio.create_task(show(ours, is_proxied=False))
        theirs.setblocking(False)
        told = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(theirs, 1000), DEADLINE)
        assert json.loads(told)["url"].startswith("http://127.0.0.1:")
        theirs.close()
        await asyncio.wait_for(showing, DEADLINE)

    asyncio.run(run())
