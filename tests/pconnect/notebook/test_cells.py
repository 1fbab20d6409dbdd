"""Cells, with shells that act like those of ipykernel 6 and 7; tests/integration/test_notebook.py has a real kernel."""

import asyncio
import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pconnect import psend, reval
from pconnect.commands.console import StandardStreams
from pconnect.notebook.cells import Cells
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server


class Events:
    def __init__(self) -> None:
        self.callbacks: list[tuple[str, Callable[..., None]]] = []

    def register(self, name: str, callback: Callable[..., None]) -> None:
        self.callbacks.append((name, callback))

    def unregister(self, name: str, callback: Callable[..., None]) -> None:
        self.callbacks.remove((name, callback))

    def happen(self, name: str) -> None:
        for wanted, callback in list(self.callbacks):
            if wanted == name:
                callback()


class OldShell:
    """A shell with one parent message for all threads."""

    def __init__(self) -> None:
        self.events = Events()
        self.parent: dict[str, Any] = {}
        self.out = Out(self)

    def get_parent(self) -> dict[str, Any]:
        return self.parent

    def set_parent(self, parent: dict[str, Any]) -> None:
        self.parent = parent


class NewShell(OldShell):
    """A shell that sets the parent message temporarily."""

    def set_parent(self, _: dict[str, Any]) -> None:
        raise AssertionError("it holds for other threads as well")

    def set_thread_parent(self, parent: dict[str, Any]) -> dict[str, Any]:
        before, self.parent = self.parent, parent
        return before

    def reset_thread_parent(self, before: dict[str, Any]) -> None:
        self.parent = before


class Out(io.StringIO):
    """Records the cell for each piece of output."""

    def __init__(self, shell: OldShell) -> None:
        super().__init__()
        self.shell = shell
        self.by_cell: dict[str, str] = {}

    def write(self, text: str) -> int:
        number = self.shell.get_parent()["header"]["msg_id"]
        self.by_cell[number] = self.by_cell.get(number, "") + text
        return len(text)


@pytest.fixture(params=[OldShell, NewShell])
def shell(request: pytest.FixtureRequest) -> OldShell:
    made: OldShell = request.param()
    return made


@contextlib.contextmanager
def cell(shell: OldShell, number: str) -> Iterator[None]:
    """Run a cell."""
    shell.parent = {"header": {"msg_id": number}, "content": {"code": "..."}}
    with contextlib.redirect_stdout(shell.out):
        shell.events.happen("pre_run_cell")
        yield
        shell.events.happen("post_run_cell")


def test_output_reaches_its_cell_while_no_cell_is_running(server: Server, shell: OldShell) -> None:
    cells = Cells(shell)
    cells.install()

    async def notebook(net: ClientNetwork) -> None:
        host = net[1].host
        with cell(shell, "first"):
            command = reval("precv(sockets[0]); print('late')", net[1])
        with cell(shell, "second"):
            psend(None, net[1])
            print("mine")
        with contextlib.redirect_stdout(shell.out):
            async with asyncio.timeout(60):
                while not command.has_ended or "first" not in shell.out.by_cell:
                    await asyncio.sleep(0.01)  # the kernel is idle
        assert shell.out.by_cell == {"first": f"[1 {host}] late\n", "second": "mine\n"}
        assert shell.parent["header"]["msg_id"] == "second"
        net.close()
        with cell(shell, "third"):
            pass
        assert not cells._served

    with server.connect() as net:
        asyncio.run(notebook(net))
    cells.remove()


def test_what_jobs_print_goes_to_the_cell_that_runs(server: Server, shell: OldShell) -> None:
    async def notebook() -> None:
        with server.connect() as net:
            cells = Cells(shell)
            cells.install()
            for number in ("first", "second"):
                with cell(shell, number):
                    net.submit("lambda: print('a job')").result(60)
                    assert shell.out.by_cell[number].endswith("] a job\n")
                assert shell.parent["header"]["msg_id"] == number
            cells.remove()

    asyncio.run(notebook())


def test_removing_restores_the_streams(server: Server, shell: OldShell) -> None:
    async def notebook() -> None:
        with server.connect() as net:
            cells = Cells(shell)
            cells.install()
            with cell(shell, "first"):
                assert reval("1", net[1]).origin is cells.current()
            assert net.mesh.console.sink is cells  # type: ignore[attr-defined]
            cells.remove()
            assert isinstance(net.mesh.console.sink, StandardStreams)  # type: ignore[attr-defined]
            assert reval("1", net[1]).origin is None
            assert shell.events.callbacks == []

    asyncio.run(notebook())
