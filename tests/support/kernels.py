"""Real Jupyter kernels, driven by the messages that a notebook sends."""

import contextlib
import json
import os
import queue
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support.clients import wait_asleep
from tests.support.servers import Server

DEADLINE = 60.0


@dataclass
class Run:
    """The output of a cell so far, and its result."""

    messages: list[dict[str, Any]] = field(default_factory=list, repr=False)
    reply: dict[str, Any] | None = None

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        return self._stream("stderr")

    def _stream(self, name: str) -> str:
        return "".join(
            message["content"]["text"]
            for message in self.messages
            if message["msg_type"] == "stream" and message["content"]["name"] == name
        )

    @property
    def displays(self) -> list[dict[str, Any]]:
        """The displayed data, by MIME type."""
        kinds = {"display_data", "execute_result"}
        return [message["content"]["data"] for message in self.messages if message["msg_type"] in kinds]

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs below the cell: a piece of text for each stream, or the data of a display."""
        outputs: list[dict[str, Any]] = []
        identified: dict[str, dict[str, Any]] = {}
        is_cleared_by_next = False
        for message in self.messages:
            content, kind = message["content"], message["msg_type"]
            shows = kind in {"stream", "display_data", "execute_result"}
            if kind == "clear_output" and content["wait"]:
                is_cleared_by_next = True
            elif kind == "clear_output" or (shows and is_cleared_by_next):
                outputs, identified, is_cleared_by_next = [], {}, False
            if kind == "stream":
                if not outputs or outputs[-1].keys() != {content["name"]}:
                    outputs.append({content["name"]: ""})
                outputs[-1][content["name"]] += content["text"]
            elif shows:
                outputs.append(dict(content["data"]))
                identified[content.get("transient", {}).get("display_id")] = outputs[-1]
            elif kind == "update_display_data":
                output = identified.get(content["transient"]["display_id"], {})
                output.clear()
                output.update(content["data"])
        return outputs

    @property
    def updates(self) -> list[str]:
        """The texts that displays have shown, in order."""
        kind = "update_display_data"
        return [m["content"]["data"].get("text/plain", "") for m in self.messages if m["msg_type"] == kind]

    @property
    def error(self) -> str:
        """The traceback, without colours."""
        return "\n".join(
            "\n".join(message["content"]["traceback"])
            for message in self.messages
            if message["msg_type"] == "error"
        )

    @property
    def is_idle(self) -> bool:
        return any(
            m["msg_type"] == "status" and m["content"]["execution_state"] == "idle" for m in self.messages
        )


class Kernel:
    """A kernel, and the runs of its cells."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client
        self.runs: dict[str, Run] = {}

    def start(self, source: str) -> Run:
        """Begin to run a cell."""
        identifier = self.client.execute(source, allow_stdin=False)
        return self.runs.setdefault(identifier, Run())

    def run(self, source: str) -> Run:
        """Run a cell to its end."""
        return self.finish(self.start(source))

    def well(self, source: str) -> Run:
        """Run a cell to its end; fail if it ends with an error."""
        run = self.run(source)
        assert run.reply is not None
        assert run.reply["status"] == "ok", run.error
        return run

    def finish(self, run: Run) -> Run:
        """Wait for the end of a cell."""
        self.wait(lambda: run.is_idle, "the end of a cell")
        identifier = next(name for name, known in self.runs.items() if known is run)
        while run.reply is None:
            reply = self.client.get_shell_msg(timeout=DEADLINE)
            if reply["parent_header"].get("msg_id") == identifier:
                run.reply = reply["content"]
        return run

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = DEADLINE) -> None:
        """Take messages until a condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, (
                f"timed out after {timeout:g} s waiting for {what}; the last cells: {self._last()}"
            )
            with contextlib.suppress(queue.Empty):
                message = self.client.get_iopub_msg(timeout=min(left, 1.0))
                self.runs.setdefault(message["parent_header"].get("msg_id", ""), Run()).messages.append(
                    message
                )

    def _last(self) -> list[tuple[str, str, str]]:
        return [(run.stdout, run.stderr, run.error) for run in list(self.runs.values())[-3:]]

    def interrupt(self, run: Run) -> float:
        """Interrupt a waiting cell, as a notebook's stop button does; return the seconds until it ended."""
        wait_asleep(self.manager.provisioner.process.pid)
        begin = time.monotonic()
        self.manager.interrupt_kernel()
        self.finish(run)
        return time.monotonic() - begin


@contextlib.contextmanager
def kernel_files(folder: Path, server: Server) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Yield the environment of a kernel of this Python and its manager's settings; their files are in a folder."""
    spec = folder / "kernels" / "ours"
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "ours", "language": "python"})
    )
    places = {
        "JUPYTER_PATH": folder, "JUPYTER_RUNTIME_DIR": folder / "run", "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_CONFIG_DIR": folder / "config", "IPYTHONDIR": folder / "ipython", "MPLCONFIGDIR": folder / "mpl",
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {name: str(path) for name, path in places.items()}
    environment |= {
        "PCONNECT_USER": server.credentials.user,
        "PCONNECT_PASSWORD": server.credentials.password,
    }
    # The path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="kernel-") as short:
        settings = {
            "kernel_name": "ours",
            "transport": "ipc",
            "ip": f"{short}/ipc",
            "connection_file": str(folder / "connection.json"),
        }
        yield environment, settings


@contextlib.contextmanager
def run_kernel(folder: Path, server: Server) -> Iterator[Kernel]:
    """Run a kernel of this Python whose user may log in to a server."""
    with kernel_files(folder, server) as (environment, settings):
        manager = KernelManager(**settings)
        manager.kernel_spec_manager.kernel_dirs = [str(folder / "kernels")]
        manager.start_kernel(env=environment, cwd=str(folder))
        client = manager.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=DEADLINE)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
