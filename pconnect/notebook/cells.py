"""Notebook cells: output of a command is shown in the cell that started the command.

A Jupyter kernel shows all output under the header of a parent message, the one that runs the cell. A command records
this header when it is created (`Command.origin`), and the header is in effect while output of the command is shown.
Output of jobs goes to the cell that is running, or ran last; the scheduler's thread shows it. Between cells, the
kernel's event loop serves the networks, so output of a background command appears immediately even while the kernel is
idle.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from pconnect.commands.command import Command
from pconnect.commands.console import StandardStreams
from pconnect.commands.front_end_messages import Display, show
from pconnect.loop.event_loop import EventLoop
from pconnect.session import open_networks
from pconnect.session.client_mesh import ClientMesh

# A notebook stores its output, and a browser becomes slow with more than a few megabytes of it.
_MAX_SHOWN_BYTES = 2**20


class Cell:
    """One execution of a cell."""

    def __init__(self, parent: dict[str, Any]) -> None:
        #: The message that requested the execution, without its content.
        self.parent = {"header": parent.get("header", {})}
        self.streams = StandardStreams()  #: puts the node in front of each line

    @property
    def number(self) -> object:
        """The identifier of the request."""
        return self.parent["header"].get("msg_id")


class Cells:
    """The cells of one kernel, and the networks used in them."""

    #: How much of each stream of a command a cell shows for each node.
    max_shown_bytes: int | None = _MAX_SHOWN_BYTES

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._cell = Cell({})
        self._served: dict[EventLoop, int] = {}  # the descriptor watched by the kernel's event loop

    def install(self) -> None:
        """Take over the output of all networks, including future ones."""
        open_networks.watch(self._adopt)
        self._before_cell()
        self._shell.events.register("pre_run_cell", self._before_cell)
        self._shell.events.register("post_run_cell", self._after_cell)

    def remove(self) -> None:
        """Let output go to the standard streams again."""
        self._shell.events.unregister("pre_run_cell", self._before_cell)
        self._shell.events.unregister("post_run_cell", self._after_cell)
        open_networks.unwatch(self._adopt)
        for mesh in open_networks.all_open():
            mesh.console.sink, mesh.sink = StandardStreams(), show
            mesh.note_origin = lambda: None
        for event_loop in list(self._served):
            self._stop_serving(event_loop)

    def current(self) -> Cell:
        """Return the running cell."""
        cell = Cell(self._shell.get_parent())
        if cell.number != self._cell.number:
            self._cell = cell
        return self._cell

    def write(self, node: int, host: str, stream: int, text: str, command: Command | None) -> None:
        """Show output of an engine; see `pconnect.commands.console.Sink`."""
        cell = command.origin if command is not None and isinstance(command.origin, Cell) else self._cell
        with self._output_to(cell):
            cell.streams.write(node, host, stream, text, command)

    def _adopt(self, mesh: ClientMesh) -> None:
        def show_display(display: Display) -> None:
            command = mesh.servers[display.node].running.get(display.number)
            cell = command.origin if command is not None and isinstance(command.origin, Cell) else self._cell
            with self._output_to(cell):
                show(display)

        mesh.console.sink, mesh.sink, mesh.note_origin = self, show_display, self.current

    @contextlib.contextmanager
    def _output_to(self, cell: Cell) -> Iterator[None]:
        """Direct output of the body to a cell."""
        shell = self._shell
        if hasattr(shell, "set_thread_parent"):
            tokens = shell.set_thread_parent(cell.parent)
            try:
                yield
            finally:
                shell.reset_thread_parent(tokens)
            return
        if threading.current_thread() is not threading.main_thread():
            yield  # before ipykernel 7 all threads share one header, which is that of the running cell
            return
        # This header also applies to all output that is not sent yet, so flush it first.
        before = shell.get_parent()
        _flush()
        shell.set_parent(cell.parent)
        try:
            yield
        finally:
            _flush()
            shell.set_parent(before)

    def _before_cell(self, *_: object) -> None:
        self.current()

    def _after_cell(self, *_: object) -> None:
        """Let the kernel's event loop serve the networks whenever no cell is running."""
        for event_loop in [event_loop for event_loop in self._served if not event_loop.is_open]:
            self._stop_serving(event_loop)
        for mesh in open_networks.all_open():
            self._serve(mesh.event_loop)

    def _serve(self, event_loop: EventLoop) -> None:
        if not event_loop.is_open:
            return
        if event_loop not in self._served and (fileno := event_loop.fileno()) is not None:
            # A duplicate, because the loop also watches the original while a command is awaited.
            watched = self._served[event_loop] = os.dup(fileno)
            asyncio.get_running_loop().add_reader(watched, self._serve, event_loop)
        with event_loop.sigint_deferred:
            event_loop.poll(0)
        if event_loop.has_unread:
            asyncio.get_running_loop().call_soon(self._serve, event_loop)

    def _stop_serving(self, event_loop: EventLoop) -> None:
        watched = self._served.pop(event_loop)
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
