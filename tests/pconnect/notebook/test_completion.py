import asyncio
import threading
import types

import pytest
from IPython.core.completer import CompletionContext

from pconnect import reval
from pconnect.link.connection import Connection
from pconnect.notebook.completion import in_loop_of_prompt, is_remote, make_matcher, remote_names
from pconnect.views.network_views import ClientNetwork


def complete(node: Connection | None, cell: str, *, token: str, everywhere: bool = False) -> list[str]:
    lines = cell.split("\n")
    context = CompletionContext(
        token=token,
        full_text=cell,
        cursor_position=len(lines[-1]),
        cursor_line=len(lines) - 1,
        limit=None,
    )
    found = make_matcher(None, lambda: node, lambda: everywhere)(context)
    return [item.text for item in found["completions"]]


@pytest.fixture(scope="module")
def node(network: ClientNetwork) -> Connection:
    network.push(temperature=3.0, temperament="calm")
    return network[1]


def test_names_and_attributes_of_the_engine(node: Connection) -> None:
    assert remote_names(node, "temper") == ["temperament", "temperature"]
    assert remote_names(node, "temperature.re") == ["temperature.real"]
    assert remote_names(node, "nothing.at.all") == []


def test_only_names_are_put_into_the_line(node: Connection) -> None:
    reval("vars()['temper\\x1b[2J'] = vars()['temper; import os'] = 1", node).result()
    assert remote_names(node, "temper") == ["temperament", "temperature"]


def test_where_names_are_the_engines(node: Connection) -> None:
    assert complete(node, "%px temperat", token="temperat") == ["temperature"]
    assert complete(node, "%%px --targets 1\nx = temperat", token="temperat") == ["temperature"]
    assert complete(node, "x = temperat", token="temperat") == []
    assert complete(node, "x = temperat", token="temperat", everywhere=True) == ["temperature"]
    assert complete(node, "%%px --temperat", token="temperat") == []
    assert complete(None, "%px temperat", token="temperat") == []


def test_the_token_of_ipython_is_replaced(node: Connection) -> None:
    assert complete(node, "%px x+temperature.re", token="temperature.re") == ["temperature.real"]
    assert complete(node, "%px temperature.re", token="re") == ["real"]
    assert complete(node, "%px x[temperat", token="x[temperat") == ["x[temperature"]


def test_a_busy_engine_is_not_asked(network: ClientNetwork, node: Connection) -> None:
    command = network[1].eval("precv(sockets[0])")
    assert remote_names(node, "temper") == []
    network[1].interrupt()
    assert command.exception(60) is not None
    assert remote_names(node, "temperam") == ["temperament"]


def test_lines_that_run_on_the_engines() -> None:
    assert is_remote("\n%%px\nx\ny", 3)
    assert not is_remote("%%timeit\nx", 1)
    assert not is_remote("%pxconfig x", 0)


def test_a_thread_of_the_prompt_has_the_main_thread_ask() -> None:
    async def prompt() -> None:
        loop = asyncio.get_running_loop()
        shell = types.SimpleNamespace(pt_app=types.SimpleNamespace(app=types.SimpleNamespace(loop=loop)))
        asked = asyncio.to_thread(in_loop_of_prompt, shell, threading.current_thread)
        assert await asked is threading.main_thread()
        assert in_loop_of_prompt(shell, lambda: 1) == 1

    asyncio.run(prompt())
    assert in_loop_of_prompt(None, lambda: 2) == 2
