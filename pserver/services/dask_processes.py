"""The processes of Dask clusters in an engine; the client has them started, watched and ended.

The methods of `DaskProcesses` are services. The client (see `pconnect.dask.cluster`) calls them in this order for each
cluster: `prepare` creates keys, which stay here; the client signs them; `start` starts the processes; `connect` sends
the workers the address of the scheduler; `look` reports the state of the processes; `stop` ends them. None of them
blocks for more than a moment, so the engine stays available for other commands.

A process ends with its engine, however the engine ends: it is in the engine's process group, which the server kills,
and the kernel kills it when its parent has ended.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pconnect.loop.interrupts import DeferredSigint
from pconnect.session.versions import installed
from pserver.services.files import SessionFiles
from srp_tools.certificates import NodeKey
from srp_tools.errors import ConfigurationError

_SCHEDULER = "scheduler"
_LAST_BYTES = 4000  # of standard error, to report why a process could not start
_MAX_REPORT_BYTES = 4096
_KILL_TIMEOUT = 5.0

# Dask's own starter of workers sets these: the tasks of a worker run in threads already, so none needs further threads.
# The log level suppresses lines for every worker that joins or leaves. The engine's environment takes precedence.
_ENVIRONMENT = {
    "DASK_LOGGING__DISTRIBUTED": "warning",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class _Process:
    """A process of a cluster."""

    def __init__(self, name: str, settings: Mapping[str, object], folder: Path) -> None:
        self.name = name
        self._last_words = folder / f"{name}.stderr"
        self._said = b""
        self.report, its_report = os.pipe()
        its_errors = os.dup(2)
        try:
            with self._last_words.open("wb") as errors:
                self._popen = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "pserver.services.dask_process",
                        str(its_report),
                        str(its_errors),
                    ],
                    stdin=subprocess.PIPE,
                    stderr=errors,
                    pass_fds=(its_report, its_errors),
                    env=_ENVIRONMENT | os.environ,
                    bufsize=0,
                )
        except OSError:
            os.close(self.report)
            raise
        finally:
            os.close(its_report)
            os.close(its_errors)
        self.tell(json.dumps(settings))

    def tell(self, line: str) -> None:
        """Write a line to its standard input. If the process has ended, other code notices."""
        assert self._popen.stdin is not None  # noqa: S101 - it was made
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(line.encode() + b"\n")

    @property
    def address(self) -> str | None:
        """The address that it listens on, once it has reported that."""
        return self._report.get("address")

    @property
    def _report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._said) if self._said.endswith(b"\n") else {}
        return found

    def take_report(self) -> None:
        """Read its report; close the pipe once the process has closed its end."""
        part = os.read(self.report, _MAX_REPORT_BYTES)
        self._said += part
        if not part:
            self._close_report()

    def _close_report(self) -> None:
        if self.report >= 0:
            os.close(self.report)
            self.report = -1

    def facts(self) -> dict[str, Any]:
        """Return the state of the process, for the client."""
        code = self._popen.poll()
        if code is None and self.report < 0 and self.address is None:
            code = self._popen.wait(_KILL_TIMEOUT)  # it is ending
        return {
            "pid": self._popen.pid,
            "address": self.address,
            "dashboard": self._report.get("dashboard"),  # its port
            "exit_code": code,
            "last_words": self._tail() if self.address is None else "",
        }

    def _tail(self) -> str:
        with self._last_words.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            return file.read().decode(errors="replace").strip()

    def end(self, deadline: float) -> bool:
        """Kill it unless it has ended by itself before the deadline; return whether it had to be killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        killed = self._popen.returncode is None
        if killed:
            self._popen.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
                self._popen.wait(_KILL_TIMEOUT)
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        self._close_report()
        return killed


class _Cluster:
    """An engine's part of one cluster: first the keys of its processes, then the processes."""

    def __init__(self, names: Collection[str], files: SessionFiles) -> None:
        self.keys = {name: NodeKey() for name in names}
        self.processes: dict[str, _Process] = {}
        self._files = files
        self._folder: Path | None = None

    def start(self, certificates: Mapping[str, bytes], authority: bytes, settings: Mapping[str, Any]) -> None:
        """Start the processes; each gets its key, which is then deleted here."""
        folder = self._folder = Path(tempfile.mkdtemp(prefix="dask-", dir=self._files.session_folder))
        for name, key in self.keys.items():
            identity = key.pem_identity(certificates[name], authority)
            own = {
                "name": name,
                "role": _SCHEDULER if name == _SCHEDULER else "worker",
                "identity": [identity.key, identity.certificate, identity.authority],
                "folder": str(folder),
                "path": sys.path,
            }
            with DeferredSigint():  # an interrupt must not lose track of a started process
                self.processes[name] = _Process(name, {**settings, **own}, folder)
        self.keys.clear()

    def take_reports(self, seconds: float) -> None:
        """Read reports from the processes, waiting up to the given number of seconds for the first."""
        by_descriptor = {
            process.report: process for process in self.processes.values() if process.report >= 0
        }
        if by_descriptor:
            for descriptor in select.select(list(by_descriptor), [], [], seconds)[0]:
                by_descriptor[descriptor].take_report()

    def stop(self, grace: float) -> list[str]:
        """End the processes, and remove their files; return the names of those that had to be killed."""
        deadline = time.monotonic() + grace
        killed = [name for name, process in self.processes.items() if process.end(deadline)]
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # the end of the session removes the rest
        return killed


class DaskProcesses:
    """The clusters of one engine, by the names that the client gave them.

    `files`: the session's; each cluster gets a folder inside the session's private one.
    """

    def __init__(self, files: SessionFiles) -> None:
        self._files = files
        self._clusters: dict[str, _Cluster] = {}

    def prepare(self, key: str, names: Sequence[str]) -> tuple[str | None, dict[str, bytes]]:
        """Create a key for each process of a cluster that will be started here.

        Returns the version of ``distributed`` and the public keys to sign, by name. If ``distributed`` is not
        installed, the version is ``None``, and nothing is created.
        """
        version = installed(["distributed"])["distributed"]
        if version is None:
            return None, {}
        cluster = self._clusters[key] = _Cluster(names, self._files)
        return version, {name: node_key.public_bytes() for name, node_key in cluster.keys.items()}

    def start(
        self, key: str, certificates: Mapping[str, bytes], authority: bytes, settings: Mapping[str, Any]
    ) -> None:
        """Start the processes of a cluster, with the certificates (DER) that the client has made for their keys.

        Raises `AuthenticationError` if a certificate is for another key, and `OSError` if a process could not be
        started. In both cases, processes that were already started run on until `stop`.
        """
        self._of(key).start(certificates, authority, settings)

    def connect(self, key: str, scheduler: str) -> None:
        """Send the address of the scheduler to the workers on this node."""
        for name, process in self._of(key).processes.items():
            if name != _SCHEDULER:
                process.tell(scheduler)

    def look(self, key: str, seconds: float) -> dict[str, dict[str, Any]]:
        """Return the state of the processes on this node, after waiting up to `seconds` for their reports."""
        cluster = self._of(key)
        cluster.take_reports(seconds)
        return {name: process.facts() for name, process in cluster.processes.items()}

    def stop(self, key: str, grace: float) -> list[str]:
        """End the processes on this node, and kill those that have not ended after `grace` seconds.

        Returns the names of the killed processes. If the cluster is not known here, or no longer, this does nothing.
        """
        cluster = self._clusters.pop(key, None)
        return [] if cluster is None else cluster.stop(grace)

    def _of(self, key: str) -> _Cluster:
        try:
            return self._clusters[key]
        except KeyError:
            raise ConfigurationError(
                "this engine has no such Dask cluster: it may have been restarted; start the cluster again"
            ) from None
