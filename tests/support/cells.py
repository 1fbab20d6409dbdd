"""Cells of a notebook at a machine: a kernel of Jupyter that runs there, and what each cell shows."""

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
    """What a cell has shown so far."""

    #: As a notebook would show it: streams, errors, and of values and displays the text or that it is a picture.
    shown: str = ""
    #: The data that was displayed, by MIME type.
    displays: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False


class Notebook:
    """Runs cells one after the other."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def run(self, source: str, interrupt_when: Callable[[str], bool] | None = None) -> Cell:
        """Run a cell to its end.

        Parameters
        ----------
        source
            Of the cell.
        interrupt_when
            As soon as this holds for what it has shown, the stop button is pressed.
        """
        cell = Cell()
        request = self._client.execute(source, allow_stdin=False)
        deadline = time.monotonic() + DEADLINE
        while not cell.ended:
            left = deadline - time.monotonic()
            assert left > 0, f"the cell has not ended:\n{source}\nand showed so far:\n{cell.shown}"
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
    elif kind in {"execute_result", "display_data"} and content["data"]:  # that of progress is without
        cell.displays.append(content["data"])
        is_picture = any(form.startswith("image/") for form in content["data"])
        cell.shown += f"{'(picture)' if is_picture else content['data']['text/plain']}\n"
    elif kind == "error":
        cell.shown += "\n".join(content["traceback"]) + "\n"
    elif kind == "status":
        cell.ended = content["execution_state"] == "idle"


@contextlib.contextmanager
def open_notebook(machine: Machine, kernel: str) -> Iterator[Notebook]:
    """Run a kernel that was made known to Jupyter at a machine; it ends with the block, or with the machine.

    It is spoken to by sockets in the home of the machine, which have no address in its network.
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
    """Wait until the kernel answers, and what it publishes arrives here: what it says before that is lost."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        client.kernel_info()
        with contextlib.suppress(queue.Empty):
            client.get_iopub_msg(timeout=0.5)
            return
    raise AssertionError(f"the kernel has not answered within {DEADLINE:g} s")
