"""Notebook cells on a machine: a Jupyter kernel that runs there, and the output of each cell."""

import contextlib
import json
import queue
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from tests.support.machines import DEADLINE, Machine


@dataclass
class Cell:
    """The output of a cell so far."""

    #: The text that a notebook would show: streams, errors, values and displays, with a placeholder for pictures.
    shown: str = ""
    #: The displayed data, by MIME type.
    displays: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False


class Notebook:
    """Runs cells in turn."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, source: str, interrupt_when: Callable[[str], bool] | None = None) -> Cell:
        """Run a cell to its end.

        Parameters
        ----------
        source
            Source code of the cell.
        interrupt_when
            Press the stop button as soon as this is true of the output so far.
        """
        cell = Cell()
        request = self._client.execute(source, allow_stdin=False)
        deadline = time.monotonic() + DEADLINE
        while not cell.ended:
            left = deadline - time.monotonic()
            assert left > 0, f"the cell has not ended:\n{source}\nits output so far:\n{cell.shown}"
            with contextlib.suppress(queue.Empty):
                message = self._client.get_iopub_msg(timeout=left)
                if message["parent_header"].get("msg_id") == request:
                    _take(cell, message["msg_type"], message["content"])
            if interrupt_when is not None and interrupt_when(cell.shown):
                interrupt_when = None
                channel = self._client.control_channel
                channel.send(self._client.session.msg("interrupt_request", {}))
        assert interrupt_when is None, f"the cell ended by itself:\n{source}\n{cell.shown}"
        return cell


def _take(cell: Cell, kind: str, content: dict[str, Any]) -> None:
    if kind == "stream":
        cell.shown += content["text"]
    elif kind in {"execute_result", "display_data"} and content["data"]:  # displays of progress have none
        cell.displays.append(content["data"])
        is_picture = any(form.startswith("image/") for form in content["data"])
        cell.shown += f"{'(picture)' if is_picture else content['data']['text/plain']}\n"
    elif kind == "error":
        cell.shown += "\n".join(content["traceback"]) + "\n"
    elif kind == "status":
        cell.ended = content["execution_state"] == "idle"


@contextlib.contextmanager
def open_notebook(machine: Machine, kernel: str) -> Iterator[Notebook]:
    """Run a kernel that is registered with Jupyter on a machine; it ends with the block or with the machine.

    The test reaches it through Unix sockets in the machine's home, not over its network.
    """
    specification = machine.home / ".local/share/jupyter/kernels" / kernel / "kernel.json"
    file = machine.home / "run" / "kernel.json"
    write_connection_file(
        str(file), ip=str(machine.home / "run" / "ipc"), transport="ipc", key=b"of the test"
    )
    command = [word.format(connection_file=file) for word in json.loads(specification.read_text())["argv"]]
    machine.run(f"{shlex.join(command)} > run/kernel.log 2>&1 &")
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    try:
        _await_ready(client)
        yield Notebook(client)
    finally:
        client.stop_channels()


def _await_ready(client: BlockingKernelClient) -> None:
    """Wait until the kernel answers and its published messages arrive; earlier ones are lost."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        client.kernel_info()
        with contextlib.suppress(queue.Empty):
            client.get_iopub_msg(timeout=0.5)
            return
    raise AssertionError(f"timed out after {DEADLINE:g} s waiting for the kernel's answer")
